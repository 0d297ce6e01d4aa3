//! Shares out what the process has little of among applications: memory for large bodies, lookups of names.
//!
//! First come, first served, but an application holds no more than it leaves free, and one that waits for its own share
//! lets others pass. Must not know what the units stand for.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

#[derive(Clone)]
pub(super) struct Shares(Arc<Mutex<State>>);

struct State {
    units: usize,
    free: usize,
    /// Units by application, of those that hold any.
    held: HashMap<Arc<str>, usize>,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    app: Arc<str>,
    units: usize,
    admitted: oneshot::Sender<Room>,
}

/// What one taker holds; dropped, it is free again.
pub(super) struct Room {
    shares: Shares,
    app: Arc<str>,
    units: usize,
}

impl Shares {
    /// So many units in all.
    pub fn new(units: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            units,
            free: units,
            held: HashMap::new(),
            waiting: VecDeque::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for so many units for `app`. `None` when `gives_up` comes first.
    pub async fn room(&self, app: &Arc<str>, units: usize, gives_up: impl Future<Output = ()>) -> Option<Room> {
        let (admitted, answer) = oneshot::channel();
        {
            let mut state = self.state();
            let units = units.min(state.units);
            state.waiting.push_back(Waiting {
                app: app.clone(),
                units,
                admitted,
            });
        }
        self.admit();
        tokio::select! {
            room = answer => return room.ok(),
            () = gives_up => {}
        }
        // Others may have waited behind it.
        self.admit();
        None
    }

    fn admit(&self) {
        let admitted = self.state().admit();
        for one in admitted {
            let room = Room {
                shares: self.clone(),
                app: one.app,
                units: one.units,
            };
            // Who has left meanwhile drops it.
            let _ = one.admitted.send(room);
        }
    }
}

impl State {
    /// Takes out of the line who may have room now, and counts it as theirs.
    fn admit(&mut self) -> Vec<Waiting> {
        let mut admitted = Vec::new();
        let mut passed_by: HashSet<Arc<str>> = HashSet::new();
        let mut is_full = false;
        for one in std::mem::take(&mut self.waiting) {
            if one.admitted.is_closed() {
                continue;
            }
            let has = self.held.get(&one.app).copied().unwrap_or_default();
            let has_its_share = has > 0 && has + one.units > self.free.saturating_sub(one.units);
            if is_full || has_its_share || passed_by.contains(&one.app) {
                passed_by.insert(one.app.clone());
                self.waiting.push_back(one);
            } else if one.units > self.free {
                is_full = true;
                self.waiting.push_back(one);
            } else {
                self.free -= one.units;
                *self.held.entry(one.app.clone()).or_default() += one.units;
                admitted.push(one);
            }
        }
        admitted
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.shares.state();
        state.free += self.units;
        if let Some(held) = state.held.get_mut(&self.app) {
            *held -= self.units;
            if *held == 0 {
                state.held.remove(&self.app);
            }
        }
        drop(state);
        self.shares.admit();
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::pin::Pin;
    use std::task::Poll;

    use futures_util::poll;
    use tokio::sync::Notify;

    use super::*;

    /// One unit for `app`; it never gives up.
    fn unit(shares: &Shares, app: &str) -> Pin<Box<dyn Future<Output = Option<Room>>>> {
        let (shares, app) = (shares.clone(), Arc::from(app));
        Box::pin(async move { shares.room(&app, 1, pending()).await })
    }

    /// Asks for a unit so many times; returns what is had at once.
    async fn take(shares: &Shares, app: &str, times: usize) -> Vec<Room> {
        let mut rooms = Vec::new();
        for _ in 0..times {
            if let Poll::Ready(Some(room)) = poll!(unit(shares, app)) {
                rooms.push(room);
            }
        }
        rooms
    }

    #[tokio::test]
    async fn each_application_leaves_as_much_as_it_takes() {
        let shares = Shares::new(64);
        let mut rooms = Vec::new();
        for (app, share) in [("a", 32), ("b", 16), ("c", 8), ("d", 4), ("e", 2), ("f", 1), ("g", 1)] {
            let its = take(&shares, app, 40).await;
            assert_eq!(its.len(), share, "{app}");
            rooms.extend(its);
        }
        assert!(take(&shares, "h", 1).await.is_empty());
        drop(rooms);
        assert_eq!(take(&shares, "a", 40).await.len(), 32, "all of it is free again");
        assert!(shares.state().held.is_empty(), "who holds nothing is forgotten");
        assert!(shares.state().waiting.iter().all(|one| one.admitted.is_closed()));
    }

    #[tokio::test]
    async fn who_waits_for_its_own_share_lets_others_pass() {
        let shares = Shares::new(4);
        let mut held = take(&shares, "a", 2).await;
        let mut own = unit(&shares, "a");
        assert!(poll!(&mut own).is_pending());
        assert_eq!(take(&shares, "b", 1).await.len(), 1);
        held.pop();
        assert!(poll!(&mut own).is_ready());
    }

    #[tokio::test]
    async fn where_nothing_is_free_the_first_that_came_goes_first() {
        let shares = Shares::new(1);
        let held = take(&shares, "a", 1).await;
        let (mut first, mut second) = (unit(&shares, "b"), unit(&shares, "c"));
        assert!(poll!(&mut first).is_pending());
        assert!(poll!(&mut second).is_pending());
        drop(held);
        assert!(poll!(&mut second).is_pending());
        let Poll::Ready(room) = poll!(&mut first) else {
            panic!("it is its turn");
        };
        drop(room);
        assert!(poll!(&mut second).is_ready());
    }

    #[tokio::test]
    async fn who_gives_up_lets_those_behind_it_go() {
        let shares = Shares::new(2);
        let _held = take(&shares, "a", 1).await;
        let over = Notify::new();
        let (large, small) = (Arc::from("b"), Arc::from("c"));
        let mut first = Box::pin(shares.room(&large, 2, over.notified()));
        let mut second = Box::pin(shares.room(&small, 1, pending()));
        assert!(poll!(&mut first).is_pending());
        assert!(poll!(&mut second).is_pending());
        over.notify_one();
        assert!(matches!(poll!(&mut first), Poll::Ready(None)));
        assert!(poll!(&mut second).is_ready());
    }
}
