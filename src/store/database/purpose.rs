//! Selects the connections that a handle on the store takes. The queue, the API, the heartbeat and background work each
//! have a handle of their own on the same store, so the queue and the heartbeat never wait for a connection that the
//! API holds. On SQLite that is true of reads: all writes go over one connection.
//!
//! Must not open a connection.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::outage;
use super::pool::Pool;
use super::store::{Pools, Purpose, Store};
use crate::store::Backend;

/// How many connections a pool has.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    /// The name of the pool.
    pub pool: &'static str,
    pub in_use: usize,
    pub idle: usize,
    /// The most that `in_use` and `idle` may be together.
    pub most: usize,
}

impl Store {
    fn with(&self, purpose: Purpose) -> Self {
        Self {
            inner: self.inner.clone(),
            purpose,
        }
    }

    /// Returns a handle that takes the API's connections. There a statement ends after 4 s (on SQLite a read), a wait
    /// for a lock after 2 s (on Postgres), and within [`serve`](super::request::serve) customers take turns.
    pub fn for_api(&self) -> Self {
        self.with(Purpose::Api)
    }

    /// Returns a handle that takes the heartbeat's connection, which nothing else uses. SQLite has no heartbeat, and
    /// takes the queue's connections.
    pub fn for_beat(&self) -> Self {
        self.with(Purpose::Beat)
    }

    /// Returns a handle that takes the queue's connections, but of all background work together only one at a time.
    pub fn for_background(&self) -> Self {
        self.with(Purpose::Background)
    }

    /// Returns a handle that takes the queue's connections.
    pub fn for_queue(&self) -> Self {
        self.with(Purpose::Queue)
    }

    /// Counts the connections of each pool as they are now.
    pub fn connections(&self) -> Vec<Connections> {
        let count = |pool: &&Pool| {
            let inner = pool.inner();
            let (open, idle, most) = match self.backend() {
                Backend::Postgres => {
                    let pool = inner.get_postgres_connection_pool();
                    (pool.size(), pool.num_idle(), pool.options().get_max_connections())
                }
                Backend::Sqlite => {
                    let pool = inner.get_sqlite_connection_pool();
                    (pool.size(), pool.num_idle(), pool.options().get_max_connections())
                }
            };
            Connections {
                pool: pool.name(),
                in_use: (open as usize).saturating_sub(idle),
                idle,
                most: most as usize,
            }
        };
        self.all_pools().iter().map(count).collect()
    }

    pub(crate) fn all_pools(&self) -> [&Pool; 3] {
        match &self.inner.pools {
            Pools::Sqlite {
                writer, readers, own, ..
            } => [readers, own, writer.pool()],
            Pools::Postgres { api, queue, beat, .. } => [api, queue, beat],
        }
    }

    /// Returns the pool for this handle's statements outside a transaction, and on Postgres for its transactions too.
    pub(crate) fn pool(&self) -> &Pool {
        match (&self.inner.pools, self.purpose) {
            (Pools::Sqlite { readers, .. }, Purpose::Api) => readers,
            (Pools::Sqlite { own, .. }, Purpose::Queue | Purpose::Beat) => own,
            (Pools::Postgres { api, .. }, Purpose::Api) => api,
            (Pools::Postgres { queue, .. }, Purpose::Queue) => queue,
            (Pools::Postgres { beat, .. }, Purpose::Beat) => beat,
            (Pools::Sqlite { background, .. } | Pools::Postgres { background, .. }, Purpose::Background) => background,
        }
    }

    /// Notes that a heartbeat of this process has committed. `asked_at` is when it was sent, by the monotonic clock.
    pub(crate) fn note_beat(&self, asked_at: Duration) {
        self.inner
            .beat_at
            .store(asked_at.as_micros() as u64 + 1, Ordering::Relaxed);
        outage::note_beat();
    }

    /// Returns the time since the last heartbeat that committed was sent. `None` means that none has committed yet.
    pub fn beat_age(&self) -> Option<Duration> {
        let at = self.inner.beat_at.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.clock().monotonic().saturating_sub(Duration::from_micros(at)))
    }

    /// Closes all connections of the pools, after the statements on them have ended.
    pub async fn close(&self) {
        for pool in self.all_pools() {
            let _ = pool.inner().close().await;
        }
    }
}
