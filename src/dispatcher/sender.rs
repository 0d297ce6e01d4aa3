//! Makes one attempt at a delivery: checks the target, signs the payload and sends it.
//!
//! The result is an outcome and never an error: a customer's 500 is a fact to record. If this process cannot make the
//! attempt, because it is too late for it or descriptors or memory are short, the lease is given back and no attempt is
//! counted.
//!
//! Must not write to the database: the settler records the outcome.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue, USER_AGENT};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::sync::Semaphore;
use url::{Position, Url};

use super::cause::Failed;
use super::client::{self, Client};
use super::done::{Done, returned};
use super::exchange::{NoAnswer, exchange};
use super::names::PublicNames;
use super::settings::Settings;
use super::shares::Shares;
use super::trace::attempt_of;
use crate::domain::delivery::{Attempt, Outcome, answer_text, decide};
use crate::domain::failure::{Failure, Phase};
use crate::domain::health::judge;
use crate::domain::request_headers::{ACCEPT_ALL, AGENT, PAYLOAD_TYPE, is_sent, signature_headers};
use crate::domain::retry::RetrySchedule;
use crate::domain::signature::sign;
use crate::domain::target::{TargetPolicy, literal_address, parse_url};
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Result};
use crate::slots::Unsettled;
use crate::store::Store;
use crate::store::database::outage;
use crate::store::entity::endpoint::StoredSecret;
use crate::store::queue::{self, AttemptRow, Content, Lease, Settlement, Target};

/// How long the lease must last beyond the attempt's deadline when the attempt begins: the time to settle its outcome.
const SETTLE_MARGIN: Duration = Duration::from_secs(5);
/// Kilobytes of large bodies that may be in memory at once.
const LARGE_KB: usize = 64 * 1024;
/// Large bodies that may be read from the database at once.
const READS: usize = 2;
/// How long an attempt keeps its slot if this machine had no file descriptors or memory for it. Given back at once, the
/// delivery would be claimed and fail again and again; while the slot is taken, the attempts in flight can end.
const SHORTAGE_PAUSE: Duration = Duration::from_secs(1);
/// The least time between two log lines about such a shortage.
const SHORTAGE_LOG_PAUSE: Duration = Duration::from_secs(60);

pub(super) struct Sender {
    store: Store,
    client: Client,
    names: PublicNames,
    targets: Arc<TargetPolicy>,
    timeout: Duration,
    schedule: RetrySchedule,
    /// The memory for large bodies, in kilobytes.
    large: Shares,
    /// Limits how many large bodies are read at once, because these reads take the queue's connections.
    reads: Semaphore,
    random: SystemRandom,
    svix_headers: bool,
    disable_after: Option<Duration>,
    /// When a shortage was last logged; `None` means never.
    shortage_logged: Mutex<Option<Instant>>,
}

impl Sender {
    /// Builds a sender and its HTTP client.
    ///
    /// # Errors
    /// `Config` if the system has no root certificates.
    pub fn new(store: Store, settings: Settings) -> Result<Self> {
        let targets = Arc::new(settings.targets);
        let names = PublicNames::new(targets.clone(), settings.name_server, settings.attempt_timeout);
        Ok(Self {
            store,
            client: client::new(names.clone(), settings.attempt_timeout)?,
            names,
            targets,
            timeout: settings.attempt_timeout,
            schedule: settings.schedule,
            large: Shares::new(LARGE_KB),
            reads: Semaphore::new(READS),
            random: SystemRandom::new(),
            svix_headers: settings.svix_headers,
            disable_after: settings.disable_after,
            shortage_logged: Mutex::default(),
        })
    }

    /// Deals with one lease: makes its attempt, or gives it back. The slot is free again when this returns; the second
    /// value counts the outcome as unsettled until it is dropped.
    pub async fn send(&self, lease: Lease) -> (Done, Unsettled) {
        let (Some(target), false) = (lease.target.clone(), lease.delivered_already) else {
            return self.settlement(lease, None, &Outcome::NotSent);
        };
        let clock = self.store.clock();
        let begins_before = lease.ends_at.saturating_sub(self.timeout + SETTLE_MARGIN);
        let (body, _room) = match &lease.content {
            Content::Body(body) => (Some(body.clone()), None),
            Content::Gone => (None, None),
            Content::Large(bytes) => {
                let too_late = clock.sleep_until(begins_before);
                let Some(room) = self.large.room(&target.app_id, *bytes / 1024 + 1, too_late).await else {
                    return returned(lease);
                };
                let body = {
                    let _permit = self.reads.acquire().await;
                    queue::find_body(&self.store, lease.app_id(), &lease.message_id).await
                };
                match body {
                    Ok(body) => (body.map(Bytes::from), Some(room)),
                    Err(err) => {
                        outage::note_failure(&err, "a payload could not be read; giving the lease back");
                        return returned(lease);
                    }
                }
            }
        };
        let Some(body) = body else {
            return self.settlement(lease, None, &Outcome::NotSent);
        };
        if clock.monotonic() > begins_before {
            return returned(lease);
        }
        let created_at = clock.now();
        let id = clock.new_typed_id_at(created_at);
        let began = Instant::now();
        let Some((mut outcome, failure)) = self.attempt(&lease, created_at, &target, body).await else {
            tokio::time::sleep(SHORTAGE_PAUSE).await;
            return returned(lease);
        };
        // The decision needs no text, so the attempt takes it.
        let (response_status, response) = match &mut outcome {
            Outcome::Answered(answer) => (answer.status.into(), mem::take(&mut answer.body)),
            Outcome::NoAnswer { error } => (0, mem::take(error)),
            Outcome::NotSent => (0, String::new()),
        };
        let took = began.elapsed();
        let duration_ms = i64::try_from(took.as_millis()).unwrap_or(i64::MAX);
        tracing::debug!(
            attempt = lease.attempts_made + 1,
            status = response_status,
            reason = (response_status == 0).then_some(response.as_str()),
            duration_ms,
            "an attempt has ended"
        );
        let attempt = AttemptRow {
            id,
            created_at,
            url: target.url.clone(),
            response_status,
            response,
            duration_ms,
            detail: failure.map(|failure| failure.to_json().into()),
        };
        let (sent, unsettled) = self.settlement(lease, Some(attempt), &outcome);
        if let Done::Attempted(settlement) = &sent {
            let metrics = self.store.metrics();
            metrics.attempted(settlement.decision, response_status, took);
        }
        (sent, unsettled)
    }

    /// Makes the settlement of a lease from the outcome of its attempt, and frees the slot. `attempt` is `None` if
    /// nothing was sent.
    fn settlement(&self, lease: Lease, attempt: Option<AttemptRow>, outcome: &Outcome) -> (Done, Unsettled) {
        let failing_since = lease.target.as_ref().and_then(|target| target.failing_since);
        let ended = Attempt {
            outcome,
            trigger: lease.trigger,
            attempts_made: lease.attempts_made,
            ended_at: self.store.clock().now(),
        };
        let decision = decide(&ended, &self.schedule, || self.jitter());
        let texts = attempt
            .as_ref()
            .map_or(0, |attempt| attempt.answer_bytes() + attempt.url.len());
        let learned = attempt.is_some().then_some(outcome);
        let settlement = Settlement {
            endpoint_id: lease.endpoint_id().clone(),
            app_id: lease.app_id().clone(),
            delivery_id: lease.delivery_id,
            lease_id: lease.lease_id,
            message_id: lease.message_id,
            trigger: lease.trigger,
            attempt,
            decision,
            attempts_made: lease.attempts_made,
            health: judge(&ended, decision, failing_since, self.disable_after),
        };
        (
            Done::Attempted(Box::new(settlement)),
            lease.slot.settles(learned, texts),
        )
    }

    /// Returns a random number in [-1, 1], or 0 if the system has none.
    fn jitter(&self) -> f64 {
        let mut bytes = [0; 4];
        if self.random.fill(&mut bytes).is_err() {
            return 0.0;
        }
        f64::from(i32::from_le_bytes(bytes)) / f64::from(i32::MAX).abs()
    }

    /// Makes one attempt, and returns what is kept of its failure, if it fails. `None` means that this machine had no file
    /// descriptors or memory left for it: that is no failure of the endpoint, and the caller gives the lease back.
    async fn attempt(
        &self,
        lease: &Lease,
        at: Timestamp,
        target: &Target,
        body: Bytes,
    ) -> Option<(Outcome, Option<Box<Failure>>)> {
        let url = match self.callable(&target.url) {
            Ok(url) => url,
            Err(failed) => return Some(unanswered(failed)),
        };
        let request = match self.request(lease, at, target, &url, body) {
            Ok(request) => request,
            Err(err) => return Some(unanswered(Failed::new(Phase::Send, err.to_string()))),
        };
        let exchange = exchange(&self.client, request, &url, at, self.timeout);
        match attempt_of(&target.app_id, exchange).await {
            Ok((answer, failure)) => Some((Outcome::Answered(answer), failure)),
            Err(NoAnswer::Failed(failed)) => Some(unanswered(failed)),
            Err(NoAnswer::Shortage(why)) => {
                self.warn_shortage(&why);
                None
            }
        }
    }

    /// Logs a shortage, at most once a minute.
    fn warn_shortage(&self, reason: &str) {
        let mut logged = self.shortage_logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|at| at.elapsed() >= SHORTAGE_LOG_PAUSE) {
            *logged = Some(Instant::now());
            tracing::error!(
                reason,
                "this machine has too few file descriptors or too little memory; deliveries wait, and do not count as failed"
            );
        }
    }

    /// Builds the signed request.
    ///
    /// # Errors
    /// `Config` if the URL or a custom header cannot be used, `Internal` if a signing secret cannot be opened. The text
    /// becomes the outcome of the attempt.
    fn request(
        &self,
        lease: &Lease,
        at: Timestamp,
        target: &Target,
        url: &Url,
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>> {
        let custom = target.headers.open(self.store.keys()?, target.endpoint_id.as_str())?;
        let mut headers = HeaderMap::with_capacity(custom.len() + 12);
        // Host is first, as RFC 9110 asks (section 7.2). Headers go out in the order in which they are inserted here.
        headers.insert(HOST, header(&url[Position::BeforeHost..Position::AfterPort])?);
        headers.insert(ACCEPT, HeaderValue::from_static(ACCEPT_ALL));
        headers.insert(USER_AGENT, HeaderValue::from_static(AGENT));
        let content_type = match &lease.content_type {
            Some(given) => header(given)?,
            None => HeaderValue::from_static(PAYLOAD_TYPE),
        };
        headers.insert(CONTENT_TYPE, content_type);
        let seconds = at.unix_seconds();
        let secrets = StoredSecret::open_valid(&target.secrets, self.store.keys()?, target.endpoint_id.as_str(), at)?;
        let signature = header(&sign(&secrets, lease.message_id.as_str(), seconds, &body))?;
        for [id, timestamp, signatures] in signature_headers(self.svix_headers) {
            headers.insert(id, header(lease.message_id.as_str())?);
            headers.insert(timestamp, seconds.into());
            headers.insert(signatures, signature.clone());
        }
        for (name, value) in &custom {
            let invalid = || Error::config(format!("the endpoint's header {name} is not a valid header"));
            let name = HeaderName::try_from(name).map_err(|_| invalid())?;
            let value = HeaderValue::try_from(value).map_err(|_| invalid())?;
            if is_sent(name.as_str(), headers.contains_key(&name)) {
                headers.insert(name, value);
            }
        }
        let mut request = Request::post(url.as_str()).body(Full::new(body));
        if let Ok(request) = &mut request {
            *request.headers_mut() = headers;
        }
        request.map_err(|err| Error::config("the endpoint's url cannot be called").because(err))
    }

    /// Parses the endpoint's URL, and refuses a literal address that may not be called. A name is checked when it is
    /// resolved.
    fn callable(&self, url: &str) -> Result<Url, Failed> {
        let invalid = |rule| Failed::new(Phase::Target, format!("the endpoint's url cannot be called: it {rule}"));
        let url = parse_url(url).map_err(invalid)?;
        match literal_address(&url).map(|ip| self.targets.check_address(ip)) {
            Some(Err(why)) => {
                self.names.warn_refused(url.host_str().unwrap_or_default());
                Err(Failed::not_called(Phase::Target, why))
            }
            _ => Ok(url),
        }
    }
}

/// Makes the outcome of an attempt without an answer.
fn unanswered(failed: Failed) -> (Outcome, Option<Box<Failure>>) {
    let error = answer_text(failed.text.as_bytes());
    (Outcome::NoAnswer { error }, Some(failed.failure))
}

/// Makes a header's value of `text`.
fn header(text: &str) -> Result<HeaderValue> {
    HeaderValue::from_str(text).map_err(|err| Error::internal("a header of ours is not valid").because(err))
}
