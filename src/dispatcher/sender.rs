//! One attempt: checks the target, signs, sends, caps the answer. Its result is an outcome, never an error: a
//! customer's 500 is a fact to record. Holds no transaction. Called by the dispatcher for every lease.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use hyper::{Request, Response};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Semaphore;

use super::Settings;
use super::client::{self, Client};
use super::large::LargeBodies;
use super::spelling::Spellings;
use crate::domain::delivery::{Answer, Decision, Outcome, answer_text, decide};
use crate::domain::id::Prefix;
use crate::domain::retry::{RetrySchedule, parse_retry_after};
use crate::domain::secret::EndpointSecret;
use crate::domain::signature::sign;
use crate::domain::standing::judge;
use crate::domain::target::TargetPolicy;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::entity::endpoint::StoredSecret;
use crate::store::handoff::Unsettled;
use crate::store::queue::{self, AttemptRow, Content, Lease, Settlement, Target};

/// What the lease must still cover beyond the attempt's deadline when the attempt begins: time to settle it.
const SETTLE_MARGIN: Duration = Duration::from_secs(5);
/// Bytes of an answer that are read; the rest is cut off with its connection. More than is kept, so that an answer
/// just above the cap leaves its connection usable.
const READ_CAP: usize = 32 * 1024;
/// Kilobytes of large bodies in memory at once.
const LARGE_KB: usize = 64 * 1024;
/// Large bodies that are read at once.
const READS: usize = 2;
/// The names of id, timestamp and signatures: those of Standard Webhooks, and older ones that some receivers know alone.
const SIGNATURE_HEADERS: [[&str; 3]; 2] = [
    ["webhook-id", "webhook-timestamp", "webhook-signature"],
    ["svix-id", "svix-timestamp", "svix-signature"],
];
const AGENT: &str = concat!("Postrider/", env!("CARGO_PKG_VERSION"));

pub(super) struct Sender {
    store: Store,
    client: Client,
    targets: Arc<TargetPolicy>,
    timeout: Duration,
    schedule: RetrySchedule,
    large: LargeBodies,
    /// Large bodies are read over the queue's connections, so few at once.
    reads: Semaphore,
    random: SystemRandom,
    svix_headers: bool,
    disable_after: Option<Duration>,
    spellings: Spellings,
}

/// A lease that has been dealt with.
#[derive(Clone, Debug)]
pub(super) enum Sent {
    Settled(Box<Settlement>),
    /// Not begun: given back, not counted.
    Unsent {
        delivery_id: String,
        app_id: String,
        lease_id: i64,
    },
}

impl Sent {
    pub fn delivery_id(&self) -> &str {
        match self {
            Sent::Settled(settlement) => &settlement.delivery_id,
            Sent::Unsent { delivery_id, .. } => delivery_id,
        }
    }

    pub fn app_id(&self) -> &str {
        match self {
            Sent::Settled(settlement) => &settlement.app_id,
            Sent::Unsent { app_id, .. } => app_id,
        }
    }

    /// Outcomes with the same key are settled in the order in which they came: those of one endpoint.
    pub fn order_key(&self) -> &str {
        match self {
            Sent::Settled(settlement) => &settlement.endpoint_id,
            Sent::Unsent { delivery_id, .. } => delivery_id,
        }
    }

    /// Bytes of the answer's text.
    pub fn bytes(&self) -> usize {
        match self {
            Sent::Settled(settlement) => settlement.attempt.as_ref().map_or(0, |attempt| attempt.response.len()),
            Sent::Unsent { .. } => 0,
        }
    }

    /// The lease that it is settled under.
    pub fn lease_id(&self) -> i64 {
        match self {
            Sent::Settled(settlement) => settlement.lease_id,
            Sent::Unsent { lease_id, .. } => *lease_id,
        }
    }

    pub fn lease_id_mut(&mut self) -> &mut i64 {
        match self {
            Sent::Settled(settlement) => &mut settlement.lease_id,
            Sent::Unsent { lease_id, .. } => lease_id,
        }
    }
}

impl Sender {
    pub fn new(store: Store, settings: Settings) -> Result<Self> {
        let targets = Arc::new(settings.targets);
        Ok(Self {
            store,
            client: client::new(targets.clone(), settings.attempt_timeout)?,
            targets,
            timeout: settings.attempt_timeout,
            schedule: settings.schedule,
            large: LargeBodies::new(LARGE_KB),
            reads: Semaphore::new(READS),
            random: SystemRandom::new(),
            svix_headers: settings.svix_headers,
            disable_after: settings.disable_after,
            spellings: Spellings::default(),
        })
    }

    /// Sends one lease. Its slot is free again when this returns; what became of it counts as unsettled instead.
    pub async fn send(&self, lease: Lease) -> (Sent, Unsettled) {
        let (Some(target), false) = (lease.target.clone(), lease.delivered_already) else {
            return self.settlement(lease, None, &Outcome::Gone);
        };
        let clock = self.store.clock();
        let begins_before = lease.ends_at.saturating_sub(self.timeout + SETTLE_MARGIN);
        let (body, _room) = match &lease.content {
            Content::Body(body) => (Some(Bytes::copy_from_slice(body.as_bytes())), None),
            Content::Gone => (None, None),
            Content::Large(bytes) => {
                let too_late = clock.sleep_until(begins_before);
                let Some(room) = self.large.room(&target.app_id, *bytes, too_late).await else {
                    return unsent(lease);
                };
                let body = {
                    let _turn = self.reads.acquire().await;
                    queue::find_body(&self.store, &lease.app_id, &lease.message_id).await
                };
                match body {
                    Ok(body) => (body.map(Bytes::from), Some(room)),
                    Err(err) => {
                        tracing::warn!(%err, message = lease.message_id, "a payload could not be read; giving the lease back");
                        return unsent(lease);
                    }
                }
            }
        };
        let Some(body) = body else {
            return self.settlement(lease, None, &Outcome::Gone);
        };
        if clock.monotonic() > begins_before {
            return unsent(lease);
        }
        let created_at = clock.now();
        let id = clock.new_id_at(Prefix::Attempt, created_at);
        let began = Instant::now();
        let outcome = self.attempt(&lease, created_at, &target, body).await;
        lease.slot.learn(&outcome);
        let (response_status, response) = match &outcome {
            Outcome::Answered(answer) => (answer.status.into(), answer.body.clone()),
            Outcome::NoAnswer { error } => (0, error.clone()),
            Outcome::Gone => (0, String::new()),
        };
        let took = began.elapsed();
        let duration_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        let attempt = AttemptRow {
            id,
            created_at,
            url: target.url.clone(),
            response_status,
            response,
            duration_ms,
        };
        let (sent, unsettled) = self.settlement(lease, Some(attempt), &outcome);
        if let Sent::Settled(settlement) = &sent {
            let metrics = self.store.metrics();
            metrics.attempted(settlement.decision, response_status, took);
        }
        (sent, unsettled)
    }

    /// What became of a lease whose delivery was dealt with; its slot is free with this.
    fn settlement(&self, lease: Lease, attempt: Option<AttemptRow>, outcome: &Outcome) -> (Sent, Unsettled) {
        let failing_since = lease.target.as_ref().and_then(|target| target.failing_since);
        let failed = u32::try_from(lease.attempt).unwrap_or(0) + 1;
        let now = self.store.clock().now();
        let decision = match outcome {
            Outcome::Gone => Decision::Failed,
            outcome => decide(outcome, lease.trigger, failed, &self.schedule, now, self.jitter()),
        };
        let texts = attempt
            .as_ref()
            .map_or(0, |attempt| attempt.response.len() + attempt.url.len());
        let settlement = Settlement {
            endpoint_id: lease.endpoint_id.to_string(),
            delivery_id: lease.delivery_id,
            lease_id: lease.lease_id,
            app_id: lease.app_id,
            message_id: lease.message_id,
            trigger: lease.trigger,
            attempt,
            decision,
            attempts_before: lease.attempt,
            standing: judge(
                outcome,
                decision,
                lease.trigger,
                lease.attempt,
                failing_since,
                self.disable_after,
                now,
            ),
        };
        (Sent::Settled(Box::new(settlement)), lease.slot.settles(texts))
    }

    /// In [-1, 1].
    fn jitter(&self) -> f64 {
        let mut bytes = [0; 4];
        if self.random.fill(&mut bytes).is_err() {
            return 0.0;
        }
        f64::from(i32::from_le_bytes(bytes)) / f64::from(i32::MAX).abs()
    }

    /// One deadline over everything: connect, headers, body.
    async fn attempt(&self, lease: &Lease, at: Timestamp, target: &Target, body: Bytes) -> Outcome {
        let request = match self.request(lease, at, target, body).await {
            Ok(request) => request,
            Err(err) => return Outcome::NoAnswer { error: err.to_string() },
        };
        match tokio::time::timeout(self.timeout, self.exchange(request, at)).await {
            Ok(Ok(answer)) => Outcome::Answered(answer),
            Ok(Err(error)) => Outcome::NoAnswer {
                error: answer_text(error.as_bytes()),
            },
            Err(_) => Outcome::NoAnswer {
                error: format!("no complete answer within {} s", self.timeout.as_secs()),
            },
        }
    }

    async fn request(
        &self,
        lease: &Lease,
        at: Timestamp,
        target: &Target,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>> {
        let url = self.targets.check_url(&target.url).map_err(Error::config)?;
        let own = target.headers.open(self.store.keys()?, &target.endpoint_id)?;
        let mut headers = HeaderMap::with_capacity(own.len() + 8);
        for (name, value) in &own {
            let invalid = || Error::config(format!("the endpoint's header {name} is not a valid header"));
            let name = HeaderName::try_from(name).map_err(|_| invalid())?;
            headers.insert(name, HeaderValue::try_from(value).map_err(|_| invalid())?);
        }
        // Ours go last: an endpoint's own headers never replace them.
        let seconds = at.unix_seconds();
        let signature = header(&sign(&self.secrets(target, at)?, &lease.message_id, seconds, &body))?;
        let content_type = match &lease.content_type {
            Some(own) => header(own)?,
            None => HeaderValue::from_static("application/json"),
        };
        headers.insert(CONTENT_TYPE, content_type);
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        for [id, timestamp, signatures] in SIGNATURE_HEADERS.into_iter().take(1 + usize::from(self.svix_headers)) {
            headers.insert(id, header(&lease.message_id)?);
            headers.insert(timestamp, seconds.into());
            headers.insert(signatures, signature.clone());
        }
        let mut request = Request::post(url.as_str()).body(Full::new(body));
        if let Ok(request) = &mut request {
            *request.headers_mut() = headers;
            *request.extensions_mut() = self.spellings.of(own.keys().map(String::as_str)).await?;
        }
        request.map_err(|err| Error::config("the endpoint's url cannot be called").because(err))
    }

    /// Those that sign at this instant.
    fn secrets(&self, target: &Target, at: Timestamp) -> Result<Vec<EndpointSecret>> {
        let valid = |one: &&StoredSecret| one.expires_at.is_none_or(|end| end > at.0);
        let opened = target.secrets.iter().filter(valid).map(|secret| {
            let clear = self.store.keys()?.open(&secret.sealed, &target.endpoint_id);
            let clear = clear.map_err(|err| Error::internal("a signing secret cannot be opened").because(err))?;
            EndpointSecret::parse(&String::from_utf8_lossy(&clear)).map_err(Error::internal)
        });
        opened.collect()
    }

    async fn exchange(&self, request: Request<Full<Bytes>>, at: Timestamp) -> Result<Answer, String> {
        let response = self.client.request(request).await.map_err(|err| reason(&err))?;
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok());
        let retry_after = retry_after.and_then(|text| parse_retry_after(text, at));
        let body = read(response).await.map_err(|err| reason(&err))?;
        Ok(Answer {
            status,
            body: answer_text(&body),
            retry_after,
        })
    }
}

/// A lease that is given back; its slot is free again with this.
pub(super) fn unsent(lease: Lease) -> (Sent, Unsettled) {
    let sent = Sent::Unsent {
        delivery_id: lease.delivery_id,
        app_id: lease.app_id,
        lease_id: lease.lease_id,
    };
    (sent, lease.slot.settles(0))
}

fn header(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|err| Error::internal("a header of ours is not valid").because(err))
}

/// The answer's body, cut at the cap.
async fn read(response: Response<Incoming>) -> Result<Vec<u8>, hyper::Error> {
    let mut body = response.into_body();
    let mut bytes = Vec::new();
    while let Some(frame) = body.frame().await {
        if let Ok(part) = frame?.into_data() {
            bytes.extend_from_slice(&part);
        }
        if bytes.len() > READ_CAP {
            break;
        }
    }
    Ok(bytes)
}

/// An error with its causes in one line: what went wrong is often the last of them.
fn reason(err: &(dyn std::error::Error + 'static)) -> String {
    let mut text = err.to_string();
    let mut cause = err.source();
    while let Some(err) = cause {
        text = format!("{text}: {err}");
        cause = err.source();
    }
    text
}
