//! Finds out why an attempt failed: the phase in which it failed, the words for it, the receiver's address, and how long
//! each phase took. The words are for the endpoint's owner; here is the only place that has them.
//!
//! Must not decide what follows from a failure: the domain does.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hyper::header::HeaderMap;
use hyper::http::Extensions;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpInfo;
use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};
use tokio::time::Instant;
use url::Url;

use super::name_servers::Unresolved;
use super::trace::{self, Steps};
use crate::domain::failure::{Failure, Phase};
use crate::domain::target::{NOT_CALLED, literal_address};

const NO_CIPHER: &str = "the receiver offers no cipher that we support: TLS 1.2 or 1.3 with ECDHE and AES-GCM or ChaCha20, \
                         and a certificate with an RSA, P-256, P-384 or Ed25519 key";
/// For an alert about the handshake as a whole. It has many causes; the likeliest is that no cipher is common to both
/// sides.
const HANDSHAKE_REFUSED: &str = "the receiver offers no cipher that we support, or it refused the TLS handshake for \
                                 another reason, such as a host name that it does not know or a client certificate that \
                                 it wants; we support TLS 1.2 or 1.3 with ECDHE and AES-GCM or ChaCha20, and a \
                                 certificate with an RSA, P-256, P-384 or Ed25519 key";
const NO_VERSION: &str = "the receiver offers no version of TLS that we support: 1.2 or 1.3";
const NO_TLS: &str = "the receiver does not speak TLS there; its url may have to begin with http://";
const UNKNOWN_ISSUER: &str = "the certificate was issued by no authority that we trust";
const UNKNOWN_KEY: &str = "the certificate has a kind of key or signature that we do not support: P-521 is one";
const WANTS_CERTIFICATE: &str = "the receiver wants a client certificate, and we have none";

/// A failed attempt without an answer.
pub(super) struct Failed {
    /// The error in words for all who may see the attempt.
    pub text: String,
    pub failure: Box<Failure>,
}

impl Failed {
    /// Makes a failure of which no more is known than its phase and the words.
    pub fn new(phase: Phase, text: impl Into<String>) -> Self {
        Self {
            text: text.into(),
            failure: Box::new(Failure::new(phase)),
        }
    }

    /// Makes a failure to call a target that does not exist or must not be called. `why` is for the organization alone.
    pub fn not_called(phase: Phase, why: String) -> Self {
        let mut failed = Self::new(phase, NOT_CALLED);
        failed.failure.organization_text = Some(why);
        failed
    }
}

/// An exchange that has begun.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub url: &'a Url,
    pub begun: Instant,
    pub timeout: Duration,
}

impl Call<'_> {
    /// Finds out why hyper returned an error.
    pub fn failed(&self, err: &legacy::Error) -> Failed {
        let steps = trace::steps();
        let mut failed = self.say(err, self.phase(err, steps.as_ref()));
        self.measure(&mut failed.failure, steps, info_of(err).as_ref(), None);
        failed
    }

    /// Finds out what the attempt was waiting for when its time was over.
    pub fn timed_out(&self) -> Failed {
        let steps = trace::steps();
        let within = seconds(self.timeout);
        let mut failed = match steps.as_ref().and_then(|steps| self.phase_of_connect(steps)) {
            Some(Phase::Resolve) => self.unresolved(&Unresolved::NotInTime),
            Some(Phase::Tls) => Failed::new(Phase::Tls, format!("TLS: no handshake within {within}")),
            Some(phase) => Failed::new(phase, format!("no connection within {within}")),
            None => Failed::new(Phase::Answer, format!("no answer within {within}")),
        };
        self.measure(&mut failed.failure, steps, None, None);
        failed
    }

    /// Describes an answer that is no success. Its head came at `at`.
    pub fn refused(&self, headers: &HeaderMap, extensions: &Extensions, at: Instant) -> Box<Failure> {
        let mut failure = Box::new(Failure::new(Phase::Answer));
        failure.keep_headers(headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())));
        self.measure(&mut failure, trace::steps(), extensions.get(), Some(at));
        failure
    }

    /// Describes an answer that is no success and whose head hyper refused with this error.
    pub fn refused_head(&self, err: &legacy::Error) -> Box<Failure> {
        let mut failure = Box::new(Failure::new(Phase::Answer));
        self.measure(
            &mut failure,
            trace::steps(),
            info_of(err).as_ref(),
            Some(Instant::now()),
        );
        failure
    }

    /// Returns the phase in which an error occurred.
    fn phase(&self, err: &legacy::Error, steps: Option<&Steps>) -> Phase {
        if err.is_connect() {
            let phase = steps.and_then(|steps| self.phase_of_connect(steps));
            return phase.unwrap_or(Phase::Connect);
        }
        // With TLS 1.3 a receiver may refuse the handshake after it has ended for us.
        if find::<rustls::Error>(err).is_some() {
            return Phase::Tls;
        }
        Phase::Answer
    }

    /// Returns the phase in which the making of a connection is. `None` means that the connection can be used.
    fn phase_of_connect(&self, steps: &Steps) -> Option<Phase> {
        match steps {
            Steps { ready: Some(_), .. } => None,
            Steps { connected: Some(_), .. } if self.is_tls() => Some(Phase::Tls),
            Steps { is_resolving: true, .. } => Some(Phase::Resolve),
            _ => Some(Phase::Connect),
        }
    }

    fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Finds words for an error.
    fn say(&self, err: &legacy::Error, phase: Phase) -> Failed {
        if let Some(unresolved) = find::<Unresolved>(err) {
            return self.unresolved(unresolved);
        }
        let text = match phase {
            Phase::Connect => self.say_unconnected(err),
            Phase::Tls => format!("TLS: {}", self.say_no_tls(err)),
            _ if find::<hyper::Error>(err).is_some_and(hyper::Error::is_parse) => {
                format!("the answer is not HTTP: {}", reason(err))
            }
            _ if io_kind(err) == Some(io::ErrorKind::ConnectionReset) => {
                "the connection was reset before an answer".to_owned()
            }
            _ if is_closed(err) => "the connection was closed before an answer".to_owned(),
            _ => format!("no answer: {}", reason(err)),
        };
        Failed::new(phase, text)
    }

    /// Says why a name has no address. That it does not exist is for the organization alone.
    fn unresolved(&self, why: &Unresolved) -> Failed {
        let host = self.url.host_str().unwrap_or_default();
        match why {
            Unresolved::Unknown => {
                let why = format!("could not resolve the name {host}: it does not exist, or has no address");
                Failed::not_called(Phase::Resolve, why)
            }
            Unresolved::NotPublic(why) => Failed::not_called(Phase::Target, format!("the name {host}: {why}")),
            Unresolved::NotInTime => {
                let text = format!("could not resolve the name {host}: its name servers did not answer in time");
                Failed::new(Phase::Resolve, text)
            }
            Unresolved::Refused(_) | Unresolved::Shortage(_) => {
                Failed::new(Phase::Resolve, format!("could not resolve the name {host}: {why}"))
            }
        }
    }

    /// Says why there is no connection over TCP.
    fn say_unconnected(&self, err: &legacy::Error) -> String {
        use io::ErrorKind::{ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable, TimedOut};
        match io_kind(err) {
            Some(ConnectionRefused) => "connection refused".to_owned(),
            Some(ConnectionReset) => "connection reset".to_owned(),
            Some(HostUnreachable) => "no connection: the host cannot be reached".to_owned(),
            Some(NetworkUnreachable) => "no connection: its network cannot be reached".to_owned(),
            Some(TimedOut) => format!("no connection within {}", seconds(self.timeout)),
            _ => format!("no connection: {}", reason(err)),
        }
    }

    /// Says why TLS failed.
    fn say_no_tls(&self, err: &legacy::Error) -> String {
        use io::ErrorKind::{ConnectionReset, TimedOut, UnexpectedEof};
        match io_kind(err) {
            _ if find::<rustls::Error>(err).is_some() => reason(err),
            Some(UnexpectedEof) => "the connection was closed during the handshake".to_owned(),
            Some(ConnectionReset) => "the connection was reset during the handshake".to_owned(),
            Some(TimedOut) => format!("no handshake within {}", seconds(self.timeout)),
            _ => reason(err),
        }
    }

    /// Adds the receiver's address and the times. `info` is of the connection over which the request went. If it is not
    /// the one that was opened for this attempt, the steps of that one do not count. Without `info` the address is the
    /// one that was dialled.
    fn measure(&self, failure: &mut Failure, steps: Option<Steps>, info: Option<&HttpInfo>, answered: Option<Instant>) {
        let steps = steps.filter(|steps| {
            let ours = steps.ends.map(|(ours, _)| ours);
            info.is_none_or(|info| ours == Some(info.local_addr()))
        });
        failure.peer = info.map(HttpInfo::remote_addr).or_else(|| self.dialled(steps.as_ref()));
        let phases = &mut failure.phases;
        let ready = steps.and_then(|steps| steps.ready).unwrap_or(self.begun);
        phases.first_byte = answered.map(|at| millis(ready, at));
        let Some(steps) = steps else { return };
        // A phase that has not ended has lasted until now.
        let now = Instant::now();
        let dialled = steps.resolved.unwrap_or(steps.begun);
        if steps.is_resolving || steps.resolved.is_some() {
            phases.resolve = Some(millis(steps.begun, steps.resolved.unwrap_or(now)));
        }
        if !steps.is_resolving {
            phases.connect = Some(millis(dialled, steps.connected.unwrap_or(now)));
        }
        if let (Some(connected), true) = (steps.connected, self.is_tls()) {
            phases.tls = Some(millis(connected, steps.ready.unwrap_or(now)));
        }
    }

    /// Returns the address of a connection that may not have come about. Of several addresses the first is dialled first,
    /// and hyper's error is of that one.
    fn dialled(&self, steps: Option<&Steps>) -> Option<SocketAddr> {
        let connected = steps.and_then(|steps| Some(steps.ends?.1));
        connected.or_else(|| {
            let resolved = steps.and_then(|steps| steps.address);
            let address = resolved.or_else(|| literal_address(self.url))?;
            Some(SocketAddr::new(address, self.url.port_or_known_default()?))
        })
    }
}

/// Returns the whole milliseconds between two instants.
fn millis(from: Instant, until: Instant) -> u32 {
    u32::try_from(until.saturating_duration_since(from).as_millis()).unwrap_or(u32::MAX)
}

/// Writes a time as `30 s`.
fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

/// Returns the addresses of the connection over which a request failed.
fn info_of(err: &legacy::Error) -> Option<HttpInfo> {
    let mut connection = Extensions::new();
    err.connect_info()?.get_extras(&mut connection);
    connection.get().cloned()
}

/// Returns whether a connection ended before a whole head came.
fn is_closed(err: &legacy::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, UnexpectedEof};
    let by_hyper = |err: &hyper::Error| err.is_incomplete_message() || err.is_canceled() || err.is_closed();
    find::<hyper::Error>(err).is_some_and(by_hyper)
        || matches!(io_kind(err), Some(BrokenPipe | ConnectionAborted | UnexpectedEof))
}

/// Returns the kind of the first `io::Error` that does more than wrap another error.
fn io_kind(err: &(dyn StdError + 'static)) -> Option<io::ErrorKind> {
    let mut kinds = causes(err).filter_map(|cause| Some(cause.downcast_ref::<io::Error>()?.kind()));
    kinds.find(|kind| *kind != io::ErrorKind::Other)
}

/// Returns the first error of a type among an error and its causes.
fn find<'a, E: StdError + 'static>(err: &'a (dyn StdError + 'static)) -> Option<&'a E> {
    causes(err).find_map(|cause| cause.downcast_ref())
}

/// Iterates over an error and its causes. The error that an `io::Error` wraps is among them, although `source` skips
/// it.
pub(super) fn causes<'a>(err: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(err), |&err| {
        let wrapped = err.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped
            .map(|inner| inner as &(dyn StdError + 'static))
            .or_else(|| err.source())
    })
}

/// Describes an error in one line: in words of ours if there are any, else by the error with its causes, the last of
/// which often says most.
pub(super) fn reason(err: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    let mut last = String::new();
    for cause in causes(err) {
        if let Some(words) = cause.downcast_ref::<rustls::Error>().and_then(tls_words) {
            return words.to_owned();
        }
        let said = cause.to_string();
        if said != last {
            let colon = if text.is_empty() { "" } else { ": " };
            text = format!("{text}{colon}{said}");
            last = said;
        }
    }
    text
}

/// Returns words for failures of TLS that an endpoint's owner can do something about; `None` for all others.
fn tls_words(err: &rustls::Error) -> Option<&'static str> {
    use rustls::Error::{AlertReceived, InvalidCertificate, PeerIncompatible as Incompatible};

    match err {
        AlertReceived(AlertDescription::ProtocolVersion)
        | Incompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => Some(NO_VERSION),
        AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity) => {
            Some(HANDSHAKE_REFUSED)
        }
        AlertReceived(AlertDescription::CertificateRequired) => Some(WANTS_CERTIFICATE),
        AlertReceived(AlertDescription::UnrecognisedName) => Some("the receiver does not know the name of the host"),
        Incompatible(_) => Some(NO_CIPHER),
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => Some(NO_TLS),
        InvalidCertificate(invalid) => certificate_words(invalid),
        _ => None,
    }
}

/// Returns words for what is wrong with a certificate.
fn certificate_words(err: &CertificateError) -> Option<&'static str> {
    use CertificateError::{
        BadSignature, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet,
        NotValidYetContext, Revoked, UnknownIssuer,
    };

    #[allow(deprecated, reason = "the variant without its context may still come")]
    let words = match err {
        Expired | ExpiredContext { .. } => "the certificate has expired",
        NotValidYet | NotValidYetContext { .. } => "the certificate is not valid yet",
        NotValidForName | NotValidForNameContext { .. } => "the certificate is for another name",
        Revoked => "the certificate is revoked",
        BadSignature => "the certificate's signature is wrong",
        UnknownIssuer => UNKNOWN_ISSUER,
        CertificateError::UnsupportedSignatureAlgorithm
        | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
        | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => UNKNOWN_KEY,
        _ => return None,
    };
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_names_each_cause_once() {
        let err = io::Error::other(io::Error::other("no such thing"));
        assert_eq!(reason(&err), "no such thing");
    }

    #[test]
    fn what_a_handshake_fails_of_is_told_in_words() {
        for (err, words) in [
            (
                rustls::Error::AlertReceived(AlertDescription::HandshakeFailure),
                HANDSHAKE_REFUSED,
            ),
            (PeerIncompatible::NoCipherSuitesInCommon.into(), NO_CIPHER),
            (
                rustls::Error::AlertReceived(AlertDescription::ProtocolVersion),
                NO_VERSION,
            ),
            (InvalidMessage::InvalidContentType.into(), NO_TLS),
            (CertificateError::UnknownIssuer.into(), UNKNOWN_ISSUER),
            (CertificateError::Expired.into(), "the certificate has expired"),
            (
                CertificateError::NotValidForName.into(),
                "the certificate is for another name",
            ),
        ] {
            assert_eq!(reason(&io::Error::other(io::Error::other(err))), words);
        }
    }

    #[test]
    fn times_are_written_in_seconds() {
        assert_eq!(seconds(Duration::from_secs(30)), "30 s");
        assert_eq!(seconds(Duration::from_millis(1_500)), "1.5 s");
    }
}
