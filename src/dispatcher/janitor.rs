//! Removes what is past its retention, in small chunks between the writes of others: idempotency keys, event ids,
//! tokens of applications and of sessions in the console, links to it, unused consumers of pollers, payloads, old
//! background tasks, old messages with their attempts and results, deleted endpoints and applications, old sums of
//! attempts, old audit entries. Also merges the sums of several processes, and those of days.
//!
//! It takes no more of the database than it needs: after each chunk it rests for as long as the chunk took, unless a round
//! takes longer than a minute, or the last one has left history. Then it removes without a rest.
//!
//! One process at a time does it. Its turn is a row that it renews with each chunk, and that ends by itself if the
//! process dies. History is removed in order of time, a short window of all applications before the next one: rows that
//! were written together lie together, so Postgres logs each page once. Application by application it logged nearly a
//! page for each row.
//!
//! Must not contain SQL: the store does.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::id::Prefix;
use crate::domain::timestamp::Timestamp;
use crate::error::Result;
use crate::store::database::outage;
use crate::store::endpoint_hour::{self, Merge};
use crate::store::queue::process;
use crate::store::retention::Place;
use crate::store::{
    Backend, Store, Tx, audit, background_task, console_link, deleted, event_id, idempotency, poller_consumer,
    retention, token,
};

/// The pause between two rounds, and how long one round removes history.
const PERIOD: Duration = Duration::from_secs(60);
/// Rows that one call of the store removes at most.
const CHUNK: u64 = 1_000;
/// The same on SQLite, where all other writers wait meanwhile, about 2 ms.
const CHUNK_SQLITE: u64 = 100;
/// The rest after a chunk, in lengths of the chunk.
const REST: u32 = 1;
/// How long background tasks that have ended are kept, from their start.
const TASKS_KEPT: Duration = Duration::from_secs(90 * 24 * 3600);
/// How long a token of an application is still listed after its end.
const ENDED_TOKENS: Duration = Duration::from_hours(24);
/// How long a consumer of a poller is kept after its last use.
const CONSUMERS_KEPT: Duration = Duration::from_hours(30 * 24);
/// How long a deleted endpoint or application is kept at least. Deliveries that waited when it was deleted have ended
/// by then: the longest wait of a retry schedule is 36 days.
const DELETED_KEPT: Duration = Duration::from_hours(40 * 24);
/// Applications that one statement looks at.
const APPLICATIONS: u64 = 1_000;
/// The length of the first window of history. The next one is longer if this one held few rows, and shorter if many.
const WINDOW: Duration = Duration::from_secs(10);
/// The length of the shortest window.
const WINDOW_LEAST: Duration = Duration::from_secs(1);
/// The length of the longest window. History that lies far apart is not worth more looks than one for each hour of it.
const WINDOW_MOST: Duration = Duration::from_secs(3600);
/// Rows of a window above which the next one is shorter: 20 MB of pages, which stay in memory until all are removed.
const WINDOW_ROWS: u64 = 20_000;
/// How often history is looked for from its beginning, and not from where the last round ended: rows may have been
/// locked then, and attempts may have been written late. Such a look steps over all that was removed and not vacuumed
/// yet.
const FULL_LOOK: Duration = Duration::from_secs(3600);

/// How long a chunk that has begun may take after the stop. Usually it takes some milliseconds.
const LAST_CHUNK: Duration = Duration::from_secs(3);

pub(super) struct Janitor {
    store: Store,
    /// Cancelled when the janitor is to stop: no further chunk begins then.
    ended: CancellationToken,
    /// How long messages, attempts and results are kept.
    history: Duration,
    /// How long entries of the audit log are kept.
    audit: Duration,
    /// Names this janitor in the row of the turn.
    owner: String,
    /// The message id below which all history was removed, except for what a full look finds; empty if the next look is
    /// a full one.
    swept: String,
    /// When the last full look began, by the monotonic clock.
    looked_fully_at: Duration,
    /// The length of the next window of history.
    window: Duration,
    /// Rows that one call of the store removes at most.
    chunk: u64,
    /// Whether SQLite's log may hold payloads that were removed, and is still to be cut.
    must_forget: bool,
    /// When the round began, by the monotonic clock.
    round_began: Duration,
    /// Whether the last round has left history.
    is_behind: bool,
}

impl Janitor {
    pub fn new(store: Store, history: Duration, audit: Duration) -> Self {
        let chunk = match store.backend() {
            Backend::Postgres => CHUNK,
            Backend::Sqlite => CHUNK_SQLITE,
        };
        Self {
            store,
            ended: CancellationToken::new(),
            history,
            audit,
            owner: process::new_owner(),
            swept: String::new(),
            looked_fully_at: Duration::ZERO,
            window: WINDOW,
            chunk,
            must_forget: false,
            round_began: Duration::ZERO,
            is_behind: false,
        }
    }

    /// Removes what is past its retention until `ended`, then gives the turn back.
    pub async fn run(mut self, ended: CancellationToken) {
        self.ended = ended.clone();
        // A transaction that is dropped may still commit, and so take the turn again after it was given back.
        let too_late = async {
            ended.cancelled().await;
            tokio::time::sleep(LAST_CHUNK).await;
        };
        tokio::select! {
            () = self.rounds() => {}
            () = too_late => {}
        }
        if let Err(err) = self.stop().await {
            tracing::warn!(%err, "the janitor's turn could not be given back; it will end by itself");
        }
    }

    /// Makes one round after the other: at once if history is left, else after a minute, and after a minute if a round
    /// has failed. Returns when the janitor is to stop.
    async fn rounds(&mut self) {
        let ended = self.ended.clone();
        while !ended.is_cancelled() {
            let round = self.round().await;
            self.is_behind = matches!(round, Ok(false));
            match round {
                Ok(true) => {}
                Ok(false) => continue,
                Err(err) => {
                    let what = "rows past their retention could not be removed; trying again in a minute";
                    outage::note_failure(&err, what);
                }
            }
            ended.run_until_cancelled(self.store.clock().sleep(PERIOD)).await;
        }
    }

    /// Gives the turn back if this janitor has it, so that another process need not wait for its end.
    pub async fn stop(&self) -> Result<()> {
        let tx = self.store.begin().await?;
        retention::give_turn_back(&tx, &self.owner).await?;
        tx.commit().await
    }

    /// Makes one round: removes everything that has expired, then history past its retention for about a minute.
    /// Returns false if history is left. Stops and returns true if another process has the turn.
    pub async fn round(&mut self) -> Result<bool> {
        let now = self.store.clock().agreed_now();
        self.round_began = self.store.clock().monotonic();
        let mut pruned = self.chunk;
        while pruned == self.chunk {
            let Some(tx) = self.begin().await? else { return Ok(true) };
            let keys = idempotency::prune(&tx, now, self.chunk).await?;
            let event_ids = event_id::prune(&tx, now, self.chunk).await?;
            let tokens = token::prune(&tx, now.minus(ENDED_TOKENS), self.chunk).await?;
            let links = console_link::prune(&tx, now, self.chunk).await?;
            let consumers = poller_consumer::prune(&tx, now.minus(CONSUMERS_KEPT), self.chunk).await?;
            pruned = keys.max(event_ids).max(tokens).max(links).max(consumers);
            self.commit(tx).await?;
        }
        pruned = self.chunk;
        while pruned == self.chunk {
            let Some(tx) = self.begin().await? else { return Ok(true) };
            pruned = retention::prune_contents(&tx, now, self.chunk).await?;
            self.must_forget |= pruned > 0;
            let is_last = self.must_forget && pruned < self.chunk;
            if is_last {
                retention::forget_contents(&tx);
            }
            self.commit(tx).await?;
            self.must_forget &= !is_last;
        }
        pruned = self.chunk;
        while pruned == self.chunk {
            let Some(tx) = self.begin().await? else { return Ok(true) };
            pruned = background_task::prune(&tx, now.minus(TASKS_KEPT), self.chunk).await?;
            self.commit(tx).await?;
        }
        pruned = self.chunk;
        while pruned == self.chunk {
            let Some(tx) = self.begin().await? else { return Ok(true) };
            pruned = audit::prune(&tx, now.minus(self.audit), self.chunk).await?;
            self.commit(tx).await?;
        }
        self.prune_deleted(now).await?;
        self.tidy_sums(now).await?;
        self.sweep(now.minus(self.history)).await
    }

    /// Begins a transaction that takes or renews the turn. `None` means that another process has it, or that the janitor
    /// is to stop.
    async fn begin(&self) -> Result<Option<Tx>> {
        if self.ended.is_cancelled() {
            return Ok(None);
        }
        let tx = self.store.begin().await?;
        Ok(retention::take_turn(&tx, &self.owner).await?.then_some(tx))
    }

    /// Commits a chunk, and then rests, unless the janitor is behind. The slower the database is, the longer it rests.
    async fn commit(&self, tx: Tx) -> Result<()> {
        let began = tx.began;
        tx.commit().await?;
        let now = self.store.clock().monotonic();
        if !self.is_behind && now.saturating_sub(self.round_began) <= PERIOD {
            let rest = self.store.clock().sleep(now.saturating_sub(began) * REST);
            self.ended.run_until_cancelled(rest).await;
        }
        Ok(())
    }

    /// Removes the history from before `before`, window by window. Returns false if a minute was not enough.
    async fn sweep(&mut self, before: Timestamp) -> Result<bool> {
        let began = self.store.clock().monotonic();
        if began.saturating_sub(self.looked_fully_at) >= FULL_LOOK {
            self.swept.clear();
            self.looked_fully_at = began;
        }
        let end = Prefix::Message.first_id_at(before);
        let mut oldest = self.oldest(&end).await?;
        while let Some((first, _)) = oldest.first().cloned() {
            let until = Prefix::Message
                .instant_of(&first)
                .map_or_else(|| end.clone(), |at| Prefix::Message.first_id_at(at.plus(self.window)));
            let until = until.min(end.clone());
            let later = oldest.split_off(&(until.clone(), String::new()));
            let apps: Vec<_> = std::mem::replace(&mut oldest, later)
                .into_iter()
                .map(|(_, app)| app)
                .collect();
            let mut removed = 0;
            for apps in apps.chunks(APPLICATIONS as usize) {
                let mut place = Some(Place::default());
                while let Some(from) = place {
                    let Some(tx) = self.begin().await? else { return Ok(true) };
                    let window = (first.as_str(), until.as_str());
                    let pruned = retention::prune_history(&tx, apps, window, from, self.chunk).await?;
                    self.commit(tx).await?;
                    removed += pruned.0;
                    place = pruned.1;
                }
                oldest.extend(retention::list_oldest(&self.store, apps, &until, &end).await?);
            }
            self.swept = until;
            if removed > WINDOW_ROWS {
                self.window = (self.window / 2).max(WINDOW_LEAST);
            } else if removed < WINDOW_ROWS / 4 {
                self.window = (self.window * 2).min(WINDOW_MOST);
            }
            if self.store.clock().monotonic().saturating_sub(began) > PERIOD {
                return Ok(false);
            }
        }
        self.swept = end;
        Ok(true)
    }

    /// Returns the applications with history below the message id `end`, each behind the id of its oldest message, so
    /// that the set is in order of time. The rows that name no application count as those of one.
    async fn oldest(&self, end: &str) -> Result<BTreeSet<(String, String)>> {
        let without = [retention::NO_APP.to_owned()];
        let without = retention::list_oldest(&self.store, &without, &self.swept, end).await?;
        let mut found = BTreeSet::from_iter(without);
        let mut after = String::new();
        loop {
            let apps = retention::list_applications(&self.store, &after, APPLICATIONS).await?;
            found.extend(retention::list_oldest(&self.store, &apps, &self.swept, end).await?);
            match apps.into_iter().next_back() {
                Some(last) => after = last,
                None => return Ok(found),
            }
        }
    }

    /// Removes endpoints and applications that were deleted before the oldest history that is kept, and at least 40
    /// days ago. Stops if another process takes the turn.
    async fn prune_deleted(&self, now: Timestamp) -> Result<()> {
        let before = now.minus(self.history.max(DELETED_KEPT));
        let mut pruned = self.chunk;
        while pruned == self.chunk {
            let Some(tx) = self.begin().await? else { return Ok(()) };
            let endpoints = deleted::prune_endpoints(&tx, before, self.chunk).await?;
            let applications = deleted::prune_applications(&tx, before, self.chunk).await?;
            pruned = endpoints.max(applications);
            self.commit(tx).await?;
        }
        Ok(())
    }

    /// Merges sums of attempts that are written no more, and removes those that are too old, for about a minute. What is
    /// left then is for the next round. Stops if another process takes the turn.
    async fn tidy_sums(&self, now: Timestamp) -> Result<()> {
        let began = self.store.clock().monotonic();
        let mut tidied = self.chunk;
        while tidied == self.chunk && self.store.clock().monotonic().saturating_sub(began) <= PERIOD {
            let Some(tx) = self.begin().await? else { return Ok(()) };
            tidied = 0;
            for merge in [Merge::Processes, Merge::Hours] {
                tidied = tidied.max(endpoint_hour::merge(&tx, merge, merge.before(now), self.chunk).await?);
            }
            let before = now.minus(endpoint_hour::DAYS_KEPT);
            tidied = tidied.max(endpoint_hour::prune(&tx, before, self.chunk).await?);
            self.commit(tx).await?;
        }
        Ok(())
    }
}
