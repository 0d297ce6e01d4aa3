//! Writes many outcomes in one transaction, again and again until the database has them. Called by the dispatcher.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::Shared;
use super::sender::Sent;
use crate::crash_point;
use crate::error::{Kind, Result};
use crate::store::queue;
use crate::store::took_too_long;

/// Outcomes in one transaction.
pub(super) const BATCH: usize = 256;
/// How long a batch waits for company: nobody waits for a settle, and a larger batch costs the database less.
const LINGER: Duration = Duration::from_millis(5);
/// The pause after a settle that the database did not take.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
/// Overdue outcomes that may wait apart; more hold up the others.
const OVERDUE_CAP: usize = 4_096;
const NOT_STORABLE: &str = "(the answer could not be stored)";

/// Outcomes over which the database takes too long, each by itself, as where somebody has locked their rows. They wait
/// apart, with all that follows for the same application, so that nobody else's wait for them.
struct Overdue {
    queue: mpsc::Sender<Sent>,
    /// How many wait, by application.
    apps: Mutex<HashMap<String, usize>>,
}

impl Overdue {
    fn apps(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn has_company_of(&self, sent: &Sent) -> bool {
        self.apps().contains_key(sent.app_id())
    }

    async fn put(&self, sent: Sent) {
        *self.apps().entry(sent.app_id().to_owned()).or_default() += 1;
        // The receiver lives as long as this.
        let _ = self.queue.send(sent).await;
    }

    fn done(&self, sent: &Sent) {
        let mut apps = self.apps();
        if let Some(count) = apps.get_mut(sent.app_id()) {
            *count -= 1;
            if *count == 0 {
                apps.remove(sent.app_id());
            }
        }
    }
}

pub(super) async fn run(shared: Arc<Shared>, outcomes: mpsc::Receiver<Sent>) {
    let (queue, waiting) = mpsc::channel(OVERDUE_CAP);
    let overdue = Overdue {
        queue,
        apps: Mutex::default(),
    };
    tokio::join!(
        settle_all(&shared, outcomes, &overdue),
        settle_overdue(&shared, waiting, &overdue)
    );
}

async fn settle_all(shared: &Shared, mut outcomes: mpsc::Receiver<Sent>, overdue: &Overdue) {
    loop {
        let mut batch = Vec::with_capacity(BATCH);
        tokio::select! {
            biased;
            taken = outcomes.recv_many(&mut batch, BATCH) => if taken == 0 { return },
            () = shared.ended.cancelled() => return,
        }
        let full = tokio::time::timeout(LINGER, async {
            while batch.len() < BATCH {
                let Some(sent) = outcomes.recv().await else { return };
                batch.push(sent);
            }
        });
        let _ = full.await;
        for sent in batch.extract_if(.., |sent| overdue.has_company_of(sent)) {
            overdue.put(sent).await;
        }
        if batch.is_empty() {
            continue;
        }
        for sent in settle(shared, batch).await {
            overdue.put(sent).await;
        }
    }
}

/// One after the other, again and again, until the database has them.
async fn settle_overdue(shared: &Shared, mut waiting: mpsc::Receiver<Sent>, overdue: &Overdue) {
    let mut next = None;
    loop {
        let mut sent = match next.take() {
            Some(sent) => sent,
            None => tokio::select! {
                Some(sent) = waiting.recv() => sent,
                () = shared.ended.cancelled() => return,
            },
        };
        if settle_one(shared, &mut sent).await.is_ok() {
            let_go(shared, [&sent]).await;
            overdue.done(&sent);
            continue;
        }
        next = overdue.queue.try_send(sent).err().map(TrySendError::into_inner);
        tokio::select! {
            () = tokio::time::sleep(RETRY_PAUSE) => {}
            () = shared.ended.cancelled() => return,
        }
    }
}

/// Settles a batch. Answers those that took too long each by itself: this process goes on answering for them. The others
/// the database has stored, or refused each by itself.
pub(super) async fn settle(shared: &Shared, mut batch: Vec<Sent>) -> Vec<Sent> {
    let mut overdue: Vec<Sent> = Vec::new();
    match write(shared, &mut batch).await {
        Ok(()) => {}
        Err(err) if batch.len() == 1 && took_too_long(&err) => return batch,
        Err(err) => {
            tracing::error!(%err, outcomes = batch.len(), "a batch of outcomes was refused, or took too long; settling them one by one");
            for sent in &mut batch {
                let has_company = overdue.iter().any(|other| other.app_id() == sent.app_id());
                if has_company || settle_one(shared, sent).await.is_err() {
                    overdue.push(sent.clone());
                }
            }
        }
    }
    let waits: HashSet<&str> = overdue.iter().map(Sent::delivery_id).collect();
    let settled = batch.iter().filter(|sent| !waits.contains(sent.delivery_id()));
    let_go(shared, settled).await;
    overdue
}

/// Ends the answering for what has been settled, and gives back the leases that came for it meanwhile.
async fn let_go(shared: &Shared, settled: impl IntoIterator<Item = &Sent>) {
    let newer = |settled: &Sent| shared.held.let_go(settled);
    let mut unsent: Vec<_> = settled.into_iter().filter_map(newer).collect();
    while !unsent.is_empty() {
        if let Err(err) = write(shared, &mut unsent).await {
            tracing::warn!(%err, "leases could not be given back; they will end by themselves");
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
/// Only that it took too long.
async fn settle_one(shared: &Shared, sent: &mut Sent) -> Result<()> {
    let Err(err) = write(shared, std::slice::from_mut(sent)).await else {
        return Ok(());
    };
    if took_too_long(&err) {
        tracing::warn!(%err, delivery = sent.delivery_id(), "an outcome takes too long to store; trying again beside the others");
        return Err(err);
    }
    tracing::error!(%err, delivery = sent.delivery_id(), "an outcome was refused; storing it without the answer's text");
    let mut without = sent.clone();
    if let Sent::Settled(settlement) = &mut without
        && let Some(attempt) = &mut settlement.attempt
    {
        attempt.response = NOT_STORABLE.to_owned();
    }
    match write(shared, std::slice::from_mut(&mut without)).await {
        Err(err) if took_too_long(&err) => return Err(err),
        Err(err) => {
            tracing::error!(%err, delivery = sent.delivery_id(), "an outcome is lost; the delivery is sent again when its lease ends");
        }
        Ok(()) => {}
    }
    *sent = without;
    Ok(())
}

/// Tries until the database answers, or the process ends: only a refusal is an error, and that it took too long.
async fn write(shared: &Shared, batch: &mut [Sent]) -> Result<()> {
    loop {
        shared.held.renew(batch);
        match write_once(shared, batch).await {
            Err(err) if matches!(err.kind, Kind::Database | Kind::Unavailable) && !took_too_long(&err) => {
                shared.stuck.store(true, Ordering::Relaxed);
                tracing::warn!(%err, outcomes = batch.len(), "outcomes could not be stored; trying again");
                if shared.ended.is_cancelled() {
                    return Ok(());
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            // The database answers, be it that this took too long.
            answer => {
                shared.stuck.store(false, Ordering::Relaxed);
                return answer;
            }
        }
    }
}

async fn write_once(shared: &Shared, batch: &[Sent]) -> Result<()> {
    crash_point::pass("sent.before_settle");
    let began = Instant::now();
    let tx = shared.store.begin().await?;
    let settled = batch.iter().filter_map(|sent| match sent {
        Sent::Settled(settlement) => Some(&**settlement),
        Sent::Unsent { .. } => None,
    });
    queue::settle(&tx, settled.collect()).await?;
    let unsent: Vec<_> = batch
        .iter()
        .filter_map(|sent| match sent {
            Sent::Unsent { delivery_id, lease_id } => Some((delivery_id.as_str(), *lease_id)),
            Sent::Settled(_) => None,
        })
        .collect();
    if !unsent.is_empty() {
        queue::release(&tx, unsent).await?;
    }
    crash_point::pass("settle.before_commit");
    tx.commit().await?;
    shared.store.metrics().settle.observe_time(began.elapsed());
    crash_point::pass("settle.after_commit");
    Ok(())
}
