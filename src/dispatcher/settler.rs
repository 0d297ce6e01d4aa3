//! Writes many outcomes in one transaction, again and again until the database has them. Called by the dispatcher.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

use super::Shared;
use super::sender::Sent;
use crate::crash_point;
use crate::error::{Kind, Result};
use crate::store::queue::{self, Settlement};
use crate::store::took_too_long;

/// Outcomes in one transaction.
pub(super) const BATCH: usize = 256;
/// How long a batch waits for company: nobody waits for a settle, and a larger batch costs the database less.
const LINGER: Duration = Duration::from_millis(5);
/// The pause after a settle that the database did not take.
const RETRY_PAUSE: Duration = Duration::from_millis(200);
const NOT_STORABLE: &str = "(the answer could not be stored)";

pub(super) async fn run(shared: Arc<Shared>, mut outcomes: mpsc::Receiver<Sent>) {
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
        settle(&shared, batch).await;
    }
}

/// Settles a batch; returns when the database has it, or has refused each outcome by itself.
pub(super) async fn settle(shared: &Shared, mut batch: Vec<Sent>) {
    match write(shared, &mut batch).await {
        Ok(()) => {}
        Err(err) => {
            tracing::error!(%err, outcomes = batch.len(), "a batch of outcomes was refused, or took too long; settling them one by one");
            for sent in &batch {
                settle_one(shared, sent.clone()).await;
            }
        }
    }
    let mut held = shared.held();
    for sent in &batch {
        held.remove(sent.delivery_id());
    }
}

async fn settle_one(shared: &Shared, mut sent: Sent) {
    let Err(err) = write(shared, std::slice::from_mut(&mut sent)).await else {
        return;
    };
    tracing::error!(%err, delivery = sent.delivery_id(), "an outcome was refused; storing it without the answer's text");
    if let Sent::Settled(Settlement {
        attempt: Some(attempt), ..
    }) = &mut sent
    {
        attempt.response = NOT_STORABLE.to_owned();
    }
    if let Err(err) = write(shared, std::slice::from_mut(&mut sent)).await {
        tracing::error!(%err, delivery = sent.delivery_id(), "an outcome is lost; the delivery is sent again when its lease ends");
    }
}

/// Tries until the database answers, or the process ends: only a refusal is an error, and that several outcomes together
/// took too long.
async fn write(shared: &Shared, batch: &mut [Sent]) -> Result<()> {
    loop {
        renew(shared, batch);
        match write_once(shared, batch).await {
            Err(err) if batch.len() > 1 && took_too_long(&err) => return Err(err),
            Err(err) if matches!(err.kind, Kind::Database | Kind::Unavailable) => {
                shared.stuck.store(true, Ordering::Relaxed);
                tracing::warn!(%err, outcomes = batch.len(), "outcomes could not be stored; trying again");
                if shared.ended.is_cancelled() {
                    return Ok(());
                }
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            answer => {
                shared.stuck.store(false, Ordering::Relaxed);
                return answer;
            }
        }
    }
}

/// A row whose lease ended while its outcome waited may have been leased anew by this process: it counts all the same.
fn renew(shared: &Shared, batch: &mut [Sent]) {
    let held = shared.held();
    for sent in batch {
        if let Some(lease) = held.get(sent.delivery_id()) {
            *sent.lease_id_mut() = *lease;
        }
    }
}

async fn write_once(shared: &Shared, batch: &[Sent]) -> Result<()> {
    crash_point::pass("sent.before_settle");
    let began = Instant::now();
    let tx = shared.store.begin().await?;
    let settled = batch.iter().filter_map(|sent| match sent {
        Sent::Settled(settlement) => Some(settlement),
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
