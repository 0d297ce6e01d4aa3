//! Makes one HTTP exchange with a receiver: sends a request, and says whether an answer came and which.
//!
//! Once the head of an answer is there, its status is the outcome, whatever happens to the body. The body is read for
//! two seconds at most; if it does not end well, a remark in the kept text says how it ended. A head that hyper refuses
//! still has a status. A lack of file descriptors or memory on this machine is no failure of the receiver.
//!
//! Must not decide what follows from an outcome: the domain does.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::RETRY_AFTER;
use hyper::http::Extensions;
use hyper::{Request, Response};
use rustls::{AlertDescription, CertificateError, InvalidMessage, PeerIncompatible};
use tokio::time::{Instant, timeout_at};

use super::client::Client;
use super::connection::Heard;
use super::name_servers::{Unresolved, is_shortage};
use crate::domain::delivery::{Answer, answer_text, unfinished_answer_text};
use crate::domain::retry::parse_retry_after;
use crate::domain::timestamp::Timestamp;

/// Bytes of an answer's body that are read; if there are more, the connection is closed. More than the 20,000 bytes
/// that are kept, so that an answer that is slightly longer than these leaves its connection usable.
const READ_CAP: usize = 32 * 1024;
/// How long an answer's body is read. The body does not change the outcome, and an event stream never ends.
const BODY: Duration = Duration::from_secs(2);
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
const UNKNOWN_ISSUER: &str = "the receiver's certificate was issued by no authority that we trust";
const UNKNOWN_KEY: &str =
    "the receiver's certificate has a kind of key or signature that we do not support: P-521 is one";

/// Why there is no answer.
pub(super) enum NoAnswer {
    /// The attempt failed, for this reason in words for the endpoint's owner.
    Failed(String),
    /// This machine had no file descriptors or memory left, with the reason in words for its operator.
    Shortage(String),
}

/// Sends a request and reads the answer. Connecting, sending, and the head of the answer have `timeout` together. `at`
/// is when the attempt began; the wait until a date in Retry-After is counted from there.
pub(super) async fn exchange(
    client: &Client,
    request: Request<Full<Bytes>>,
    at: Timestamp,
    timeout: Duration,
) -> Result<Answer, NoAnswer> {
    let deadline = Instant::now() + timeout;
    let response = match timeout_at(deadline, client.request(request)).await {
        Ok(Ok(response)) => response,
        Ok(Err(err)) => return refused_head(&err, at).ok_or_else(|| no_answer(&err)),
        Err(_) => {
            let text = format!("no answer within {} s", timeout.as_secs());
            return Err(NoAnswer::Failed(text));
        }
    };
    let status = response.status().as_u16();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| parse_retry_after(text, at));
    let mut body = Vec::new();
    let ended = timeout_at(deadline.min(Instant::now() + BODY), read(response, &mut body)).await;
    let body = match ended {
        Ok(Ok(())) => answer_text(&body),
        Ok(Err(err)) => unfinished_answer_text(&body, &format!("the body ended early: {}", reason(&err))),
        Err(_) => unfinished_answer_text(&body, "the body did not end in time"),
    };
    Ok(Answer {
        status,
        body,
        retry_after,
    })
}

/// Reads an answer's body into `bytes`, up to `READ_CAP`.
async fn read(response: Response<Incoming>, bytes: &mut Vec<u8>) -> Result<(), hyper::Error> {
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        if let Ok(part) = frame?.into_data() {
            bytes.extend_from_slice(&part);
        }
        if bytes.len() > READ_CAP {
            break;
        }
    }
    Ok(())
}

/// Returns an answer whose head hyper refused, for example because of a NUL in a value, a Content-Length that is no
/// number, or 300 lines: the status line can still be read. `None` means that there is no status line, or that `err` is
/// another failure. The connection is closed by then, so nothing writes to its [`Heard`] any more.
fn refused_head(err: &hyper_util::client::legacy::Error, at: Timestamp) -> Option<Answer> {
    let refusal = causes(err).find_map(|cause| cause.downcast_ref::<hyper::Error>())?;
    if !refusal.is_parse() {
        return None;
    }
    let mut connection = Extensions::new();
    err.connect_info()?.get_extras(&mut connection);
    let (status, retry_after) = read_head(&connection.get::<Heard>()?.bytes())?;
    Some(Answer {
        status,
        body: unfinished_answer_text(&[], &format!("the head is malformed: {}", reason(refusal))),
        retry_after: retry_after.and_then(|text| parse_retry_after(&text, at)),
    })
}

/// Finds the status and Retry-After in the beginning of an answer. Interim heads before the final one are skipped.
/// `None` means that no whole status line has come.
fn read_head(bytes: &[u8]) -> Option<(u16, Option<String>)> {
    // A last line without its end may be cut off, so it does not count.
    let whole = &bytes[..bytes.iter().rposition(|byte| *byte == b'\n')?];
    let mut lines = whole.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    loop {
        let first = lines.find(|line| !line.is_empty())?;
        let status = read_status(first)?;
        if matches!(status, 100 | 102..=199) {
            lines.find(|line| line.is_empty())?;
            continue;
        }
        let retry_after = lines.take_while(|line| !line.is_empty()).find_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            let (name, value) = (line[..colon].trim_ascii(), &line[colon + 1..]);
            let wanted = name.eq_ignore_ascii_case(RETRY_AFTER.as_str().as_bytes());
            wanted.then(|| String::from_utf8_lossy(value.trim_ascii()).into_owned())
        });
        return Some((status, retry_after));
    }
}

/// Reads the status in `HTTP/1.1 200 OK`. `None` means that the line is no status line.
fn read_status(line: &[u8]) -> Option<u16> {
    let words = line.strip_prefix(b"HTTP/")?.split(u8::is_ascii_whitespace);
    let code = words.skip(1).find(|word| !word.is_empty())?;
    let status = std::str::from_utf8(code).ok()?.parse().ok()?;
    (code.len() == 3 && (100..=999).contains(&status)).then_some(status)
}

/// Says whether a failure is the receiver's or a shortage of this machine, with its reason.
fn no_answer(err: &(dyn StdError + 'static)) -> NoAnswer {
    let is_ours = causes(err).any(|cause| {
        let of_lookup = matches!(cause.downcast_ref::<Unresolved>(), Some(Unresolved::Shortage(_)));
        of_lookup || cause.downcast_ref::<io::Error>().is_some_and(is_shortage)
    });
    match is_ours {
        true => NoAnswer::Shortage(reason(err)),
        false => NoAnswer::Failed(reason(err)),
    }
}

/// Iterates over an error and its causes. The error that an `io::Error` wraps is among them, although `source` skips
/// it.
fn causes<'a>(err: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(err), |&err| {
        let wrapped = err.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        wrapped
            .map(|inner| inner as &(dyn StdError + 'static))
            .or_else(|| err.source())
    })
}

/// Describes an error in one line: in words of ours if there are any, else by the error with its causes, the last of
/// which often says most.
fn reason(err: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    let mut last = String::new();
    for cause in causes(err) {
        if let Some(unresolved) = cause.downcast_ref::<Unresolved>() {
            return unresolved.to_string();
        }
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

    #[allow(deprecated, reason = "the variant without its context may still come")]
    let words = match err {
        AlertReceived(AlertDescription::ProtocolVersion)
        | Incompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => NO_VERSION,
        AlertReceived(AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity) => HANDSHAKE_REFUSED,
        Incompatible(_) => NO_CIPHER,
        rustls::Error::InvalidMessage(InvalidMessage::InvalidContentType) => NO_TLS,
        InvalidCertificate(CertificateError::UnknownIssuer) => UNKNOWN_ISSUER,
        InvalidCertificate(
            CertificateError::UnsupportedSignatureAlgorithm
            | CertificateError::UnsupportedSignatureAlgorithmContext { .. }
            | CertificateError::UnsupportedSignatureAlgorithmForPublicKeyContext { .. },
        ) => UNKNOWN_KEY,
        _ => return None,
    };
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(head: &str) -> Option<(u16, Option<String>)> {
        read_head(head.as_bytes())
    }

    #[test]
    fn a_refused_head_has_the_status_of_its_first_line() {
        for (head, status) in [
            ("HTTP/1.1 200 OK\r\nx: \0\r\n\r\n", Some(200)),
            ("\r\nHTTP/1.0  204\r\n", Some(204)),
            ("HTTP/2 410 Gone\n\n", Some(410)),
            ("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\n", Some(202)),
            ("HTTP/1.1 200", None),
            ("HTTP/1.1 2000 OK\r\n", None),
            ("HTTP/1.1 099 OK\r\n", None),
            ("HTTP/1.1 +20 OK\r\n", None),
            ("HTTP/1.1 100 Continue\r\n\r\n", None),
            ("ICY 200 OK\r\n", None),
            ("200 OK\r\n", None),
            ("", None),
        ] {
            assert_eq!(read_text(head).map(|(status, _)| status), status, "{head:?}");
        }
    }

    #[test]
    fn a_refused_head_has_its_retry_after() {
        let wait = |lines: &str| read_text(&format!("HTTP/1.1 503 Busy\r\n{lines}\r\n\r\n")).unwrap().1;
        assert_eq!(wait("x: \0\r\nRETRY-after : 7 ").as_deref(), Some("7"));
        assert_eq!(wait("x-retry-after: 7\r\nbody\r\n\r\nretry-after: 9"), None);
    }

    #[test]
    fn a_lack_of_descriptors_or_memory_is_ours_however_deep_it_lies() {
        for (number, is_ours) in [
            (24, true),
            (23, true),
            (12, true),
            (105, true),
            (111, false),
            (99, false),
        ] {
            let err = io::Error::other(io::Error::other(io::Error::from_raw_os_error(number)));
            assert_eq!(matches!(no_answer(&err), NoAnswer::Shortage(_)), is_ours, "{number}");
        }
        assert!(matches!(no_answer(&Unresolved::Shortage(24)), NoAnswer::Shortage(_)));
        assert!(matches!(no_answer(&Unresolved::NotInTime), NoAnswer::Failed(_)));
    }

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
        ] {
            assert_eq!(reason(&io::Error::other(io::Error::other(err))), words);
        }
    }
}
