//! Forwards messages to the URL of a developer, signed as deliveries are.
//!
//! Must not ask the server for anything.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};
use tokio::time::Instant;

use super::poller::Message;
use crate::cli::server::{HttpClient, http_client, reason};
use crate::clock::Clock;
use crate::domain::request_headers::{ACCEPT_ALL, AGENT, PAYLOAD_TYPE, signature_headers};
use crate::domain::secret::EndpointSecret;
use crate::domain::signature::sign;
use crate::error::{Error, Result};

/// How long one request may take: what deliveries have unless it is set otherwise.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a receiver that refuses connections is waited for: a program that is built again is away for seconds.
const RESTART: Duration = Duration::from_secs(10);
/// Between two tries to connect.
const PAUSE: Duration = Duration::from_millis(500);
/// The most bytes of an answer that are read, so that the receiver can write it to its end.
const MOST_BYTES: usize = 1 << 20;

/// The URL to which messages are forwarded, with what each request has.
pub(super) struct Forwarder {
    client: HttpClient,
    url: Uri,
    headers: HeaderMap,
    secret: EndpointSecret,
    /// Whether the last try to connect failed, which was logged.
    is_away: bool,
}

/// The end of one request.
pub(super) struct Ended {
    /// The status of the answer, or why there was none.
    pub answer: Result<u16, String>,
    pub took: Duration,
}

/// Why a request had no answer.
struct Failure {
    reason: String,
    /// Whether there was no connection.
    at_connect: bool,
    /// Whether that is because nothing listens there.
    is_refused: bool,
}

impl Failure {
    fn of(err: &hyper_util::client::legacy::Error) -> Self {
        let sources = std::iter::successors(err.source(), |&err| err.source());
        let mut causes = sources.filter_map(|err| err.downcast_ref::<io::Error>());
        Self {
            reason: reason(err),
            at_connect: err.is_connect(),
            is_refused: causes.any(|cause| cause.kind() == io::ErrorKind::ConnectionRefused),
        }
    }

    /// Returns the failure of a request that had a connection, or needed none.
    fn later(reason: String) -> Self {
        Self {
            reason,
            at_connect: false,
            is_refused: false,
        }
    }
}

impl Forwarder {
    /// # Errors
    /// `Config` if a header is none, or if there are no root certificates for https.
    pub fn new(url: Uri, headers: &[(String, String)], secret: EndpointSecret) -> Result<Self> {
        let mut own = HeaderMap::new();
        for (name, value) in headers {
            // A text that is no name may be a credential, and so may any value: neither is repeated.
            let name = HeaderName::try_from(name)
                .map_err(|err| Error::config("a --header does not begin with the name of a header").because(err))?;
            let value = HeaderValue::try_from(value)
                .map_err(|err| Error::config(format!("--header {name} has no value of a header")).because(err))?;
            own.append(name, value);
        }
        Ok(Self {
            client: http_client()?,
            url,
            headers: own,
            secret,
            is_away: false,
        })
    }

    /// Sends a message and waits for the answer. If the connection is refused, waits for the receiver for up to 10 s. The
    /// first refusal after a connection is logged at once.
    pub async fn send(&mut self, message: &Message, body: &Bytes) -> Ended {
        let patience = Instant::now() + RESTART;
        loop {
            let began = Instant::now();
            let answer = self.try_once(message, body).await;
            let took = began.elapsed();
            self.note(answer.as_ref().err());
            match answer {
                Err(Failure { at_connect: true, .. }) if Instant::now() < patience => tokio::time::sleep(PAUSE).await,
                answer => {
                    let answer = answer.map_err(|failure| failure.reason);
                    return Ended { answer, took };
                }
            }
        }
    }

    /// Notes whether there was a connection, and logs that there is none any more.
    fn note(&mut self, failure: Option<&Failure>) {
        let failure = failure.filter(|failure| failure.at_connect);
        if let Some(Failure { reason, is_refused, .. }) = failure.filter(|_| !self.is_away) {
            let (url, patience) = (&self.url, RESTART.as_secs());
            let begin = if *is_refused {
                "nothing listens at"
            } else {
                "no connection to"
            };
            tracing::warn!("{begin} {url}: {reason}; trying again, up to {patience} s for each message");
        }
        self.is_away = failure.is_some();
    }

    /// Makes one request.
    async fn try_once(&self, message: &Message, body: &Bytes) -> Result<u16, Failure> {
        let request = self.request(message, body).map_err(Failure::later)?;
        let exchange = async {
            let response = self.client.request(request).await;
            let response = response.map_err(|err| Failure::of(&err))?;
            let status = response.status().as_u16();
            // The status counts, whatever becomes of the body.
            let _ = Limited::new(response.into_body(), MOST_BYTES).collect().await;
            Ok(status)
        };
        let late = |_| Failure::later(format!("no answer within {} s", PATIENCE.as_secs()));
        tokio::time::timeout(PATIENCE, exchange).await.map_err(late)?
    }

    /// Makes a signed request. It is signed for the present, because receivers refuse what is older than 5 minutes.
    fn request(&self, message: &Message, body: &Bytes) -> Result<Request<Full<Bytes>>, String> {
        let seconds = Clock::system().now().unix_seconds();
        let signatures = sign(std::slice::from_ref(&self.secret), &message.id, seconds, body);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(self.url.clone())
            .header(USER_AGENT, AGENT)
            .header(ACCEPT, ACCEPT_ALL)
            .header(CONTENT_TYPE, PAYLOAD_TYPE)
            // A connection that is kept ends when the receiver is built again, with the message that is sent over it.
            .header(CONNECTION, "close");
        for names in signature_headers(message.has_older_headers()) {
            for (name, value) in names
                .iter()
                .zip([message.id.as_str(), &seconds.to_string(), &signatures])
            {
                request = request.header(*name, value);
            }
        }
        let request = request.body(Full::new(body.clone()));
        let mut request = request.map_err(|err| format!("not sent: {err}"))?;
        for name in self.headers.keys() {
            request.headers_mut().remove(name);
        }
        for (name, value) in &self.headers {
            request.headers_mut().append(name, value.clone());
        }
        Ok(request)
    }
}
