//! Gathers the outcomes of delivery attempts into batches, and has them recorded.
//!
//! Each lease that has been dealt with comes over a channel. The settler takes up to 256 outcomes at a time and has them
//! written in one transaction. On Postgres it takes up to 512 if so many wait, and has them written in two transactions
//! at once. An outcome that cannot be stored even alone, because its rows are locked or damaged, waits in [`Overdue`].
//!
//! Must not write to the database: `recorder` does.

use std::collections::{HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{Notify, mpsc};

use super::done::Done;
use super::recorder::{RETRY_PAUSE, settle};
use super::shared::{Shared, has_replicas};
use crate::domain::typed_id::AppId;

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
    applications: HashMap<AppId, Line>,
    /// The applications without an outcome that is being tried, the one that has waited longest first.
    turns: VecDeque<AppId>,
}

/// The outcomes of one application that wait. It stays while one of them is being tried, so that later ones queue up
/// behind it.
#[derive(Default)]
struct Line {
    outcomes: VecDeque<Done>,
    /// Whether the last try succeeded: the next one may be a whole batch.
    flows: bool,
}

/// What is tried of an application.
struct Turn {
    app_id: AppId,
    batch: Vec<Done>,
}

impl Overdue {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Moves those outcomes of `part` here whose applications have overdue ones already.
    fn take_company(&self, part: &mut Vec<Done>) {
        let mut waiting = self.waiting();
        // One look under one lock: usually nothing waits.
        if waiting.applications.is_empty() {
            return;
        }
        let mut is_added = false;
        for sent in std::mem::take(part) {
            if waiting.applications.contains_key(sent.app_id()) {
                waiting.add(sent);
                is_added = true;
            } else {
                part.push(sent);
            }
        }
        drop(waiting);
        if is_added {
            self.more.notify_one();
        }
    }

    /// Adds outcomes, each at the end of its application's line.
    fn put(&self, overdue: Vec<Done>) {
        if overdue.is_empty() {
            return;
        }
        let mut waiting = self.waiting();
        for sent in overdue {
            waiting.add(sent);
        }
        drop(waiting);
        self.more.notify_one();
    }

    /// Takes out what is to be tried next: one outcome, or a batch if the application's last
    /// try succeeded. `None` means that nothing waits.
    fn take(&self) -> Option<Turn> {
        let mut waiting = self.waiting();
        let app_id = waiting.turns.pop_front()?;
        let line = waiting.applications.get_mut(&app_id)?;
        let most = if line.flows {
            fitting(line.outcomes.iter().take(BATCH).map(Done::bytes))
        } else {
            1
        };
        let batch = line.outcomes.drain(..most.min(line.outcomes.len())).collect();
        Some(Turn { app_id, batch })
    }

    /// Ends the turn of an application. `left` is what the database did not take; it goes to the end of the line.
    fn end_turn(&self, app_id: AppId, left: Vec<Done>) {
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

impl Waiting {
    /// Adds an outcome at the end of its application's line.
    fn add(&mut self, sent: Done) {
        let app_id = sent.app_id().clone();
        if !self.applications.contains_key(&app_id) {
            self.turns.push_back(app_id.clone());
        }
        self.applications.entry(app_id).or_default().outcomes.push_back(sent);
    }
}

/// Settles the outcomes that come until the dispatcher has ended. Outcomes that wait apart go to `overdue`.
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
        overdue.take_company(&mut part);
        if part.is_empty() {
            return;
        }
        let rest = part.split_off(fitting(part.iter().map(Done::bytes)));
        overdue.put(settle(shared, std::mem::replace(&mut part, rest)).await);
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
        let Some(Turn { app_id, batch }) = overdue.take() else {
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

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn returned(key: usize, number: usize) -> Done {
        Done::Returned {
            delivery_id: format!("dlv_{key}").into(),
            app_id: "app_1".into(),
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
