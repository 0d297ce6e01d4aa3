//! The handle on an open database: its pools, and what belongs to them in this process (clock, keys, metrics, budget, wake-ups).
//! Must not open a connection or run a statement.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::postgres::PgConnectOptions;
use tokio::sync::Notify;

use super::backend::Backend;
use super::budget::Budget;
use super::pool::Pool;
use super::shared::Writer;
use super::sqlite_file::SqliteFile;
use super::sqlite_log::Log;
use crate::clock::Clock;
use crate::domain::encryption_keys::EncryptionKeys;
use crate::error::{Error, Result};
use crate::store::queue::floors::Floors;
use crate::telemetry::metrics::Metrics;

/// What a [`Store`] is used for, which decides the connections that it takes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Purpose {
    /// The queue, look-ups of tokens, and an operator's commands: never waits for what the API does.
    Queue,
    /// Requests, whose statements end soon and are limited by customer.
    Api,
    /// The heartbeat alone.
    Beat,
    /// What can wait: one statement or transaction at once, of the queue's connections.
    Background,
}

pub(crate) enum Pools {
    Sqlite {
        writer: Arc<Writer>,
        /// For the API, with a deadline.
        readers: Pool,
        /// For all else that reads.
        own: Pool,
        background: Pool,
        log: Log,
        /// Its lock is held as long as the pools are open.
        file: Arc<SqliteFile>,
    },
    Postgres {
        api: Pool,
        queue: Pool,
        beat: Pool,
        background: Pool,
        /// For connections beside the pools.
        options: Box<PgConnectOptions>,
        answer_deadline: Duration,
        /// Connections beside the pools that the intake may have.
        intake: u32,
    },
}

/// The database, open. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
    pub(crate) purpose: Purpose,
}

pub(crate) struct Inner {
    pub(crate) pools: Pools,
    clock: Clock,
    due: Arc<Notify>,
    announced: Notify,
    keys: OnceLock<EncryptionKeys>,
    metrics: Arc<Metrics>,
    budget: Arc<Budget>,
    /// When the last own beat was asked for that committed, in microseconds of the clock's monotonic time, and one; 0: none
    /// has. Written by the heartbeat, read by the probes.
    pub(crate) beat_at: AtomicU64,
    floors: Floors,
}

impl Store {
    /// Makes the handle on pools that were just opened. It takes the queue's connections.
    pub(crate) fn new(pools: Pools, clock: Clock) -> Self {
        let inner = Arc::new(Inner {
            pools,
            metrics: Arc::new(Metrics::new(clock.now())),
            budget: Arc::default(),
            clock,
            due: Arc::default(),
            announced: Notify::new(),
            keys: OnceLock::new(),
            beat_at: AtomicU64::new(0),
            floors: Floors::default(),
        });
        Self {
            inner,
            purpose: Purpose::Queue,
        }
    }

    pub fn backend(&self) -> Backend {
        match self.inner.pools {
            Pools::Sqlite { .. } => Backend::Sqlite,
            Pools::Postgres { .. } => Backend::Postgres,
        }
    }

    pub fn clock(&self) -> &Clock {
        &self.inner.clock
    }

    /// What is counted of the work on this database.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.inner.metrics
    }

    /// What requests of this process may hold in memory.
    pub fn budget(&self) -> &Arc<Budget> {
        &self.inner.budget
    }

    /// Where the claims of this process begin to read.
    pub fn floors(&self) -> &Floors {
        &self.inner.floors
    }

    pub(crate) fn pools(&self) -> &Pools {
        &self.inner.pools
    }

    /// What opens secrets at rest; [`Tx::sealing_key`](crate::store::Tx::sealing_key) seals them.
    ///
    /// # Errors
    /// `Config` before [`Store::unlock`].
    pub fn keys(&self) -> Result<&EncryptionKeys> {
        self.inner
            .keys
            .get()
            .ok_or_else(|| Error::config("the encryption key is not set: POSTRIDER_ENCRYPTION_KEY"))
    }

    pub(crate) fn keep_keys(&self, keys: EncryptionKeys) {
        let _ = self.inner.keys.set(keys);
    }

    /// Tells the dispatcher of this process that deliveries are due.
    pub fn wake(&self) {
        self.inner.due.notify_one();
    }

    /// Returns what [`Store::wake`] notifies.
    pub fn due(&self) -> &Arc<Notify> {
        &self.inner.due
    }

    /// Waits for the next [`Store::wake`]; one that came while nobody waited counts.
    pub async fn woken(&self) {
        self.inner.due.notified().await;
    }

    /// Tells the other processes, at their next chance, that deliveries are due which this one does not send itself.
    pub fn announce(&self) {
        self.inner.announced.notify_one();
    }

    /// Waits for the next [`Store::announce`]; one that came while nobody waited counts.
    pub async fn announced(&self) {
        self.inner.announced.notified().await;
    }

    /// How many batches of messages may be under way: SQLite has one writer; on Postgres one is filled while others commit.
    pub(crate) fn intake_workers(&self) -> usize {
        match self.inner.pools {
            Pools::Sqlite { .. } => 1,
            Pools::Postgres { intake, .. } => intake as usize,
        }
    }
}
