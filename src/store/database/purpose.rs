//! Which connections a store handle takes. The queue, the API, the heartbeat and background work each have a handle on the one
//! store, so that none of them waits for a connection that another holds. Must not open a connection.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::outage;
use super::pool::Pool;
use super::store::{Pools, Purpose, Store};
use crate::store::Backend;

/// A pool's connections.
#[derive(Clone, Copy, Debug)]
pub struct Connections {
    pub pool: &'static str,
    pub in_use: usize,
    pub idle: usize,
    /// Both together, at most.
    pub most: usize,
}

impl Store {
    fn with(&self, purpose: Purpose) -> Self {
        Self {
            inner: self.inner.clone(),
            purpose,
        }
    }

    /// The same database over the API's connections: a statement ends after 4 s, a wait for a lock after 2 s, and within
    /// [`serve`](super::request::serve) customers take turns.
    pub fn for_api(&self) -> Self {
        self.with(Purpose::Api)
    }

    /// The same database over the connection that nothing but the heartbeat takes.
    pub fn for_beat(&self) -> Self {
        self.with(Purpose::Beat)
    }

    /// The same database over the queue's connections, of which all background work together takes one at once.
    pub fn for_background(&self) -> Self {
        self.with(Purpose::Background)
    }

    /// The same database over the queue's connections, whatever this one takes.
    pub fn for_queue(&self) -> Self {
        self.with(Purpose::Queue)
    }

    /// The pools' connections as they are now.
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

    /// Where this store's statements outside a transaction go, and on Postgres its transactions.
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

    /// For reads outside a transaction.
    pub(crate) fn reader(&self) -> &Pool {
        self.pool()
    }

    /// Notes that a beat of this process, asked for at `asked_at` of the clock's monotonic time, has committed.
    pub(crate) fn note_beat(&self, asked_at: Duration) {
        self.inner
            .beat_at
            .store(asked_at.as_micros() as u64 + 1, Ordering::Relaxed);
        outage::note_beat();
    }

    /// How old the last beat is that committed; `None` before the first.
    pub fn beat_age(&self) -> Option<Duration> {
        let at = self.inner.beat_at.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.clock().monotonic().saturating_sub(Duration::from_micros(at)))
    }

    /// Closes every connection of the pools, after what runs on them has ended.
    pub async fn close(&self) {
        for pool in self.all_pools() {
            let _ = pool.inner().close().await;
        }
    }
}
