//! Writes many outcomes in one transaction, again and again until the database has them. Called by the dispatcher.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::{Notify, mpsc};

use super::sender::Done;
use super::{Shared, extension, has_replicas};
use crate::crash_point;
use crate::error::{Error, Kind, Result};
use crate::store::database::outage;
use crate::store::queue::{self, AttemptRow, Settled};
use crate::store::{is_system_error, took_too_long};

/// Outcomes in one transaction. When more wait, a part of them is written by one too, however they are divided.
pub(super) const BATCH: usize = 256;
/// Bytes of answers in one transaction, which the driver copies three times on their way to the database. Two batches of
/// 256 answers of 20 kB took 40 MB.
const BATCH_BYTES: usize = 1024 * 1024;
/// Parts that are written at once on Postgres, each over a connection of its own, when more outcomes wait than one batch takes.
/// Where a round trip takes 5 ms, 2,000 outcomes were settled in 540 ms instead of 700 (medians of four runs by turns).
const AT_ONCE: usize = 2;
/// How long a batch waits for company: nobody waits for a settle, and a larger batch costs the database less.
const LINGER: Duration = Duration::from_millis(5);
/// The pause after a settle that the database did not take.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How often a batch is tried that meets an error of the system below the database, before its outcomes are tried one by
/// one: a disk that is being replaced fails for all of them, a damaged block for one.
const TRIES_OF_A_BATCH: usize = 5;
const NOT_STORABLE: &str = "(the answer could not be stored)";

/// Outcomes that the database does not take by themselves, as if somebody has locked their rows, or a block of them is
/// damaged. They wait apart, with all that follows for the same application, so that no other application's wait for them.
/// Written by the settler, read by the loop that tries them again. How many there are is bounded by the slots, which
/// gives an application with much that is unsettled no more room.
#[derive(Default)]
pub(super) struct Overdue {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    applications: HashMap<String, Line>,
    /// Applications none of whose outcomes is being tried, those that have waited longest first.
    turns: VecDeque<String>,
}

/// What waits for one application. It is there as long as one of its outcomes is being tried, so that what follows queues up.
#[derive(Default)]
struct Line {
    outcomes: VecDeque<Done>,
    /// The database took the last one: more can be tried at once.
    flows: bool,
}

impl Overdue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_company_of(&self, sent: &Done) -> bool {
        self.waiting().applications.contains_key(sent.app_id())
    }

    fn put(&self, sent: Done) {
        let mut waiting = self.waiting();
        let app_id = sent.app_id().to_owned();
        if !waiting.applications.contains_key(&app_id) {
            waiting.turns.push_back(app_id.clone());
        }
        waiting.applications.entry(app_id).or_default().outcomes.push_back(sent);
        drop(waiting);
        self.more.notify_one();
    }

    /// What is to be tried next, with its application: one outcome, or a batch if the last try succeeded.
    fn take(&self) -> Option<(String, Vec<Done>)> {
        let mut waiting = self.waiting();
        let app_id = waiting.turns.pop_front()?;
        let line = waiting.applications.get_mut(&app_id)?;
        let most = if line.flows {
            fitting(line.outcomes.iter().take(BATCH).map(Done::bytes))
        } else {
            1
        };
        let batch = line.outcomes.drain(..most.min(line.outcomes.len())).collect();
        Some((app_id, batch))
    }

    /// Ends the turn of an application; `left` is what the database did not take.
    fn end_turn(&self, app_id: String, left: Vec<Done>) {
        let mut waiting = self.waiting();
        let Some(line) = waiting.applications.get_mut(&app_id) else {
            return;
        };
        line.flows = left.is_empty();
        line.outcomes.extend(left);
        if line.outcomes.is_empty() {
            waiting.applications.remove(&app_id);
        } else {
            waiting.turns.push_back(app_id);
        }
    }
}

/// Settles what comes over `outcomes` until the dispatcher has ended.
pub(super) async fn run(shared: Arc<Shared>, mut outcomes: mpsc::UnboundedReceiver<Done>, overdue: Arc<Overdue>) {
    // SQLite has one writer.
    let at_once = if has_replicas(&shared.store) { AT_ONCE } else { 1 };
    loop {
        let mut taken = Vec::with_capacity(BATCH);
        tokio::select! {
            biased;
            count = outcomes.recv_many(&mut taken, BATCH * at_once) => if count == 0 { return },
            () = shared.ended.cancelled() => return,
        }
        let full = tokio::time::timeout(LINGER, async {
            while taken.len() < BATCH {
                let Some(sent) = outcomes.recv().await else { return };
                taken.push(sent);
            }
        });
        let _ = full.await;
        let parts = split(taken, at_once);
        join_all(parts.into_iter().map(|part| settle_part(&shared, part, &overdue))).await;
    }
}

/// What fits in one batch stays together. Of more there are `at_once` parts, and outcomes of one endpoint are in the same one:
/// so they are stored in their order, and the parts lock different rows of deliveries, results and endpoints.
fn split(taken: Vec<Done>, at_once: usize) -> Vec<Vec<Done>> {
    if taken.len() <= BATCH || at_once == 1 {
        return vec![taken];
    }
    let mut parts = vec![Vec::with_capacity(BATCH); at_once];
    for sent in taken {
        let mut hasher = DefaultHasher::new();
        sent.order_key().hash(&mut hasher);
        parts[hasher.finish() as usize % at_once].push(sent);
    }
    parts
}

async fn settle_part(shared: &Shared, mut part: Vec<Done>, overdue: &Overdue) {
    loop {
        for sent in part.extract_if(.., |sent| overdue.has_company_of(sent)) {
            overdue.put(sent);
        }
        if part.is_empty() {
            return;
        }
        let rest = part.split_off(fitting(part.iter().map(Done::bytes)));
        for sent in settle(shared, std::mem::replace(&mut part, rest)).await {
            overdue.put(sent);
        }
    }
}

/// Returns how many of the first outcomes, given by their bytes, fit in one transaction: at least one if there is any.
fn fitting(outcomes: impl Iterator<Item = usize>) -> usize {
    let mut sum = 0;
    let fits = |(index, bytes): &(usize, usize)| {
        sum += bytes;
        *index == 0 || sum <= BATCH_BYTES
    };
    outcomes.enumerate().take_while(fits).count()
}

/// Tries what is overdue, application by application, again and again until the database has it.
pub(super) async fn run_overdue(shared: Arc<Shared>, overdue: Arc<Overdue>) {
    loop {
        let Some((app_id, batch)) = overdue.take() else {
            tokio::select! {
                () = overdue.more.notified() => continue,
                () = shared.ended.cancelled() => return,
            }
        };
        let left = settle(&shared, batch).await;
        let pause = if left.is_empty() { Duration::ZERO } else { RETRY_PAUSE };
        overdue.end_turn(app_id, left);
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = shared.ended.cancelled() => return,
        }
    }
}

/// Whether the others of a batch, or later tries, may do better.
fn waits_apart(err: &Error) -> bool {
    took_too_long(err) || is_system_error(err)
}

/// Settles a batch. Returns those that the database did not take, each by itself, though it may take them later: this
/// process goes on answering for them. The others the database has stored, or refused each by itself.
pub(super) async fn settle(shared: &Shared, mut batch: Vec<Done>) -> Vec<Done> {
    let mut overdue: Vec<Done> = Vec::new();
    match write(shared, &mut batch).await {
        Ok(()) => {}
        Err(err) if batch.len() == 1 && waits_apart(&err) => return batch,
        Err(err) => {
            tracing::error!(%err, outcomes = batch.len(), "a batch of outcomes was not stored; settling them one by one");
            for sent in &mut batch {
                let has_company = overdue.iter().any(|other| other.app_id() == sent.app_id());
                if has_company || settle_one(shared, sent).await.is_err() {
                    overdue.push(sent.clone());
                }
            }
        }
    }
    let waits: HashSet<&str> = overdue.iter().map(Done::delivery_id).collect();
    let settled = batch.iter().filter(|sent| !waits.contains(sent.delivery_id()));
    let_go(shared, settled).await;
    overdue
}

/// Ends the answering for what has been settled, and gives back the leases that came for it meanwhile.
async fn let_go(shared: &Shared, settled: impl IntoIterator<Item = &Done>) {
    let newer = |settled: &Done| shared.held.let_go(settled);
    let mut unsent: Vec<_> = settled.into_iter().filter_map(newer).collect();
    while !unsent.is_empty() {
        if let Err(err) = write(shared, &mut unsent).await {
            let what = "leases could not be given back; they will end by themselves";
            outage::note_failure(&err, what);
            for sent in &unsent {
                shared.held.forget(sent.delivery_id());
            }
            return;
        }
        unsent = unsent.iter().filter_map(newer).collect();
    }
}

/// Settles one outcome, if need be without the answer's text.
///
/// # Errors
/// Only those after which it waits apart.
async fn settle_one(shared: &Shared, sent: &mut Done) -> Result<()> {
    let Err(err) = write(shared, std::slice::from_mut(sent)).await else {
        return Ok(());
    };
    if waits_apart(&err) {
        tracing::warn!(%err, delivery = sent.delivery_id(), "an outcome could not be stored; trying again beside the others");
        return Err(err);
    }
    tracing::error!(%err, delivery = sent.delivery_id(), "an outcome was refused; storing it without the answer's text");
    let mut without = sent.clone();
    if let Done::Attempted(settlement) = &mut without
        && let Some(attempt) = &mut settlement.attempt
    {
        attempt.response = NOT_STORABLE.to_owned();
    }
    match write(shared, std::slice::from_mut(&mut without)).await {
        Err(err) if waits_apart(&err) => return Err(err),
        Err(err) => {
            tracing::error!(%err, delivery = sent.delivery_id(), "an outcome is lost; the delivery is sent again when its lease ends");
        }
        Ok(()) => {}
    }
    *sent = without;
    Ok(())
}

/// Tries until the database answers, or the process ends.
///
/// # Errors
/// A refusal, that it took too long, and that the system below the database failed: for one outcome at once, for a batch
/// after some tries.
async fn write(shared: &Shared, batch: &mut [Done]) -> Result<()> {
    let (mut tries, mut is_stuck) = (0, false);
    let answer = loop {
        shared.held.renew(batch);
        let Err(err) = write_once(shared, batch).await else {
            break Ok(());
        };
        tries += 1;
        if waits_apart(&err) {
            // Their rows are not locked any more, and anybody could claim those whose lease has ended meanwhile.
            extension::extend(shared).await;
        }
        let is_an_outage = matches!(err.kind, Kind::Database | Kind::Unavailable) && !took_too_long(&err);
        let is_damage = is_system_error(&err) && (batch.len() == 1 || tries >= TRIES_OF_A_BATCH);
        if !is_an_outage || is_damage {
            break Err(err);
        }
        if !is_stuck {
            is_stuck = true;
            shared.stuck.fetch_add(1, Ordering::Relaxed);
        }
        let count = batch.len();
        outage::note_failure(&err, format_args!("{count} outcomes could not be stored; trying again"));
        if shared.ended.is_cancelled() {
            break Ok(());
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    };
    if is_stuck {
        shared.stuck.fetch_sub(1, Ordering::Relaxed);
    }
    answer
}

async fn write_once(shared: &Shared, batch: &[Done]) -> Result<()> {
    crash_point::pass("sent.before_settle");
    let began = Instant::now();
    let tx = shared.store.begin().await?;
    let settled = batch.iter().filter_map(|sent| match sent {
        Done::Attempted(settlement) => Some(&**settlement),
        Done::Returned { .. } => None,
    });
    let settled = queue::settle(&tx, settled.collect()).await?;
    let unsent: Vec<_> = batch
        .iter()
        .filter_map(|sent| match sent {
            Done::Returned {
                delivery_id, lease_id, ..
            } => Some((delivery_id.as_str(), *lease_id)),
            Done::Attempted(_) => None,
        })
        .collect();
    if !unsent.is_empty() {
        queue::release(&tx, unsent).await?;
    }
    crash_point::pass("settle.before_commit");
    tx.commit().await?;
    shared.store.metrics().settle.observe_time(began.elapsed());
    crash_point::pass("settle.after_commit");
    log(&settled);
    Ok(())
}

/// Logs what an operator should know of. After the commit, and with what the settle's own statements returned.
fn log(settled: &Settled<'_>) {
    for endpoint in &settled.endpoints {
        let (app_id, endpoint_id, uid) = (&endpoint.app_id, &endpoint.endpoint_id, &endpoint.uid);
        let reason = &endpoint.summary;
        let since = endpoint.failing_since.map(|at| at.to_rfc3339());
        match since {
            Some(since) if endpoint.disabled => {
                tracing::warn!(app_id, endpoint_id, uid, since, reason, "an endpoint is disabled");
            }
            Some(_) => tracing::warn!(app_id, endpoint_id, uid, reason, "an endpoint begins to fail"),
            None => tracing::info!(app_id, endpoint_id, uid, reason, "an endpoint works again"),
        }
    }
    for settlement in &settled.given_up {
        let (app_id, endpoint_id) = (&settlement.app_id, &settlement.endpoint_id);
        let (message_id, attempts) = (&settlement.message_id, settlement.attempts_made + 1);
        let reason = settlement.attempt.as_ref().map(AttemptRow::summary);
        tracing::warn!(
            app_id,
            endpoint_id,
            message_id,
            attempts,
            reason,
            "a message is given up"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn returned(key: usize, number: usize) -> Done {
        Done::Returned {
            delivery_id: format!("dlv_{key}"),
            app_id: "app_1".to_owned(),
            lease_id: number as i64,
        }
    }

    #[test]
    fn what_is_more_than_a_batch_is_split_and_keeps_its_order() {
        let parts = split((0..2 * BATCH).map(|number| returned(number % 16, number)).collect(), 2);
        assert!(parts.iter().all(|part| !part.is_empty()), "both have something to do");
        let mut keys = HashSet::new();
        for part in &parts {
            assert!(part.is_sorted_by_key(Done::lease_id));
            let own: HashSet<&str> = part.iter().map(Done::order_key).collect();
            assert!(own.iter().all(|key| keys.insert(*key)), "a key is in one part");
        }
        assert_eq!(keys.len(), 16);
    }

    #[test]
    fn a_batch_is_no_larger_than_its_bytes_and_never_empty() {
        let batches = [
            (&[BATCH_BYTES + 1, 1][..], 1),
            (&[BATCH_BYTES / 2; 3], 2),
            (&[0; 300], 300),
            (&[], 0),
        ];
        for (sizes, fits) in batches {
            assert_eq!(fitting(sizes.iter().copied()), fits, "{sizes:?}");
        }
    }

    #[test]
    fn a_batch_stays_together() {
        let taken: Vec<Done> = (0..BATCH).map(|number| returned(number, number)).collect();
        assert_eq!(split(taken, 2).len(), 1);
    }
}
