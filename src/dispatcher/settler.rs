//! Records the outcomes of delivery attempts.
//!
//! Each lease that has been dealt with comes over a channel. The settler takes up to 256 outcomes at a time and writes
//! them in one transaction: an `attempt` row for each, the latest result of the message at that endpoint, and either
//! the end of the delivery row or its next due time. Returned leases are released in the same transaction. On Postgres
//! it takes up to 512 if so many wait, and writes them in two transactions at once.
//!
//! A failure counts only while its lease still holds. If another process has taken the delivery over in the meantime,
//! the attempt is still recorded, because it happened, but the schedule does not move. A success always counts: the
//! receiver has the message.
//!
//! During an outage of the database the transaction is repeated until it succeeds. If it fails for another reason, the
//! outcomes are written one by one, so that a single bad row cannot block the others. An outcome that cannot be stored
//! even alone, because its rows are locked or damaged, waits in [`Overdue`].
//!
//! Must not decide what an outcome means: the domain has done so when the sender hands it over.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use tokio::sync::{Notify, mpsc};

use super::done::Done;
use super::extension;
use super::shared::{Shared, has_replicas};
use crate::crash_point;
use crate::error::{Error, Kind, Result};
use crate::store::database::outage;
use crate::store::queue::{self, AttemptRow, Settled};
use crate::store::{is_system_error, took_too_long};

/// Outcomes that one transaction writes. If more wait, they are divided into parts, and a part is one transaction even
/// if it has more outcomes than this.
pub(super) const BATCH: usize = 256;
/// Bytes of answers in one transaction. The driver copies them three times on their way to the database: two batches of
/// 256 answers of 20 kB took 40 MB.
const BATCH_BYTES: usize = 1024 * 1024;
/// Parts that are written at once on Postgres, each over a connection of its own, if more outcomes wait than one batch
/// takes.
// 2,000 outcomes with 5 ms per round trip, medians of four runs by turns: one batch of 256 at a time 700 ms, of 512
// 690 ms, two settlers with a queue each 600 ms, two parts at once 540 ms. Two settlers would also write twice as
// many transactions when few outcomes come.
const AT_ONCE: usize = 2;
/// How long a batch waits for more outcomes: no caller waits for a settlement, and a larger batch costs the database
/// less.
const LINGER: Duration = Duration::from_millis(5);
/// The pause after a settlement that the database did not take.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// How often a batch is tried if the system below the database fails, before its outcomes are tried one by one: a disk
/// that is being replaced fails for all of them, a damaged block only for one.
const TRIES_OF_A_BATCH: usize = 5;
/// Stored in place of an answer's text that the database refuses.
const NOT_STORABLE: &str = "(the answer could not be stored)";

/// Outcomes that the database does not take even alone, because another session has locked their rows or a block of the
/// table is damaged. They wait apart, together with all later outcomes of the same application, so that those of other
/// applications do not wait for them.
///
/// The settler adds outcomes; the loop of [`run_overdue`] takes them out and puts back what fails again. A mutex orders
/// the two. The slots bound how many there are, because an application with much that is unsettled gets no more slots.
#[derive(Default)]
pub(super) struct Overdue {
    waiting: Mutex<Waiting>,
    /// Notified when an outcome was added.
    more: Notify,
}

/// The content of [`Overdue`].
#[derive(Default)]
struct Waiting {
    /// What waits, by application id.
    applications: HashMap<String, Line>,
    /// The applications without an outcome that is being tried, the one that has waited longest first.
    turns: VecDeque<String>,
}

/// The outcomes of one application that wait. It stays while one of them is being tried, so that later ones queue up
/// behind it.
#[derive(Default)]
struct Line {
    outcomes: VecDeque<Done>,
    /// Whether the last try succeeded: the next one may be a whole batch.
    flows: bool,
}

impl Overdue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether outcomes of the same application wait.
    fn has_company_of(&self, sent: &Done) -> bool {
        self.waiting().applications.contains_key(sent.app_id())
    }

    /// Adds an outcome at the end of its application's line.
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

    /// Takes out what is to be tried next, with its application's id: one outcome, or a batch if the application's last
    /// try succeeded. `None` means that nothing waits.
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

    /// Ends the turn of an application. `left` is what the database did not take; it goes to the end of the line.
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

/// Settles the outcomes that come until the dispatcher has ended. Those that wait apart go to `overdue`.
pub(super) async fn run(shared: Arc<Shared>, mut outcomes: mpsc::UnboundedReceiver<Done>, overdue: Arc<Overdue>) {
    // SQLite has one writer, for which a second part would only wait.
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

/// Divides outcomes into parts: one if they fit in a batch, else `at_once`. Outcomes of one endpoint are in the same
/// part, so they are stored in their order, and the parts lock different rows of deliveries, results and endpoints.
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

/// Settles a part, in as many transactions as its bytes need. Puts those outcomes among the overdue that cannot be
/// stored now, and those whose application has overdue ones already.
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

/// Tries overdue outcomes again, application by application, until the dispatcher has ended.
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

/// Returns whether an error may concern only some outcomes of a batch, or pass with time: the database waited too long
/// for a lock or worked too long, or the system below it failed.
fn waits_apart(err: &Error) -> bool {
    took_too_long(err) || is_system_error(err)
}

/// Settles a batch. Returns the outcomes that the database does not take even alone but may take later; this process
/// stays responsible for their deliveries. All others were stored, or refused alone and given up.
pub(super) async fn settle(shared: &Shared, mut batch: Vec<Done>) -> Vec<Done> {
    let mut overdue: Vec<Done> = Vec::new();
    match write(shared, &mut batch).await {
        Ok(()) => {}
        Err(err) if batch.len() == 1 && waits_apart(&err) => return batch,
        Err(err) => {
            tracing::error!(
                %err,
                outcomes = batch.len(),
                "a batch of outcomes was not stored; storing them one by one"
            );
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

/// Ends the responsibility for settled deliveries, and gives back newer leases of them that have come since.
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

/// Settles one outcome, if necessary without the answer's text.
///
/// # Errors
/// Only errors after which the outcome waits apart.
async fn settle_one(shared: &Shared, sent: &mut Done) -> Result<()> {
    let Err(err) = write(shared, std::slice::from_mut(sent)).await else {
        return Ok(());
    };
    if waits_apart(&err) {
        tracing::warn!(
            %err,
            delivery = sent.delivery_id(),
            "an outcome could not be stored; trying again apart from the others"
        );
        return Err(err);
    }
    tracing::error!(
        %err,
        delivery = sent.delivery_id(),
        "an outcome was refused; storing it without the answer's text"
    );
    let mut without = sent.clone();
    if let Done::Attempted(settlement) = &mut without
        && let Some(attempt) = &mut settlement.attempt
    {
        attempt.response = NOT_STORABLE.to_owned();
    }
    match write(shared, std::slice::from_mut(&mut without)).await {
        Err(err) if waits_apart(&err) => return Err(err),
        Err(err) => {
            tracing::error!(
                %err,
                delivery = sent.delivery_id(),
                "an outcome is lost; the delivery is sent again when its lease ends"
            );
        }
        Ok(()) => {}
    }
    *sent = without;
    Ok(())
}

/// Writes a batch, and during an outage repeats that until the database answers. If the dispatcher ends first, returns
/// `Ok` although the outcomes may not be stored: their rows are due when the leases end.
///
/// # Errors
/// If the database refuses the batch, or ends the transaction because it took too long. If the system below the
/// database fails: for one outcome at once, for a batch after some tries.
async fn write(shared: &Shared, batch: &mut [Done]) -> Result<()> {
    let (mut tries, mut is_stuck) = (0, false);
    let answer = loop {
        shared.held.renew(batch);
        let Err(err) = write_once(shared, batch).await else {
            break Ok(());
        };
        tries += 1;
        if waits_apart(&err) {
            // The failed statement has unlocked the rows, and other processes could claim those whose lease has ended.
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

/// Writes a batch in one transaction, and logs what an operator should know of it.
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
    // From what the statements returned, as a statement that looks would cost every batch. If the answer to a commit is
    // lost, the second try changes nothing, and these lines are missing.
    log(&settled);
    Ok(())
}

/// Logs what an operator should know of: endpoints that begin to fail, work again or are disabled, and messages that
/// are given up.
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
