//! Divides what the process has little of among applications: memory for large bodies, lookups of names.
//!
//! Units go to the caller that came first, but an application gets no more of them than it leaves free. While it has to
//! wait for that reason, callers of other applications pass it. Must not know what the units stand for.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::domain::typed_id::AppId;

/// A number of units and the line of callers that wait for some. Clones are the same one.
#[derive(Clone)]
pub(super) struct Shares(Arc<Mutex<State>>);

struct State {
    /// All units.
    units: usize,
    /// The units that are not held.
    free: usize,
    /// The units that each application holds; without those that hold none.
    held: HashMap<AppId, usize>,
    /// The line, the caller that came first at its front.
    waiting: VecDeque<Waiting>,
}

/// A caller in the line.
struct Waiting {
    app: AppId,
    units: usize,
    /// Where its units go. Closed once the caller has given up.
    admitted: oneshot::Sender<Room>,
}

/// Units that a caller holds. They are free again when this is dropped.
pub(super) struct Room {
    shares: Shares,
    app: AppId,
    units: usize,
}

impl Shares {
    /// Makes shares of `units` units in all.
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

    /// Waits for `units` units for `app`, or for all if it asks for more. `None` means that `gives_up` ended first.
    pub async fn room(&self, app: &AppId, units: usize, gives_up: impl Future<Output = ()>) -> Option<Room> {
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
        // Other callers may have waited behind this one.
        self.admit();
        None
    }

    /// Hands out the units that are free.
    fn admit(&self) {
        let admitted = self.state().admit();
        for waiting in admitted {
            let room = Room {
                shares: self.clone(),
                app: waiting.app,
                units: waiting.units,
            };
            // If the caller has given up since, `room` is dropped here, and its units are free again.
            let _ = waiting.admitted.send(room);
        }
    }
}

impl State {
    /// Removes from the line all callers that may have their units now, and counts the units as held. Callers that have
    /// given up leave the line too.
    fn admit(&mut self) -> Vec<Waiting> {
        let mut admitted = Vec::new();
        let mut passed_by: HashSet<AppId> = HashSet::new();
        let mut is_full = false;
        for waiting in std::mem::take(&mut self.waiting) {
            if waiting.admitted.is_closed() {
                continue;
            }
            let has = self.held.get(&waiting.app).copied().unwrap_or_default();
            let has_its_share = has > 0 && has + waiting.units > self.free.saturating_sub(waiting.units);
            // An application that waits keeps its callers in order. The first caller that does not fit in what is free
            // keeps all behind it waiting, so that a caller with a large need gets its turn.
            if is_full || has_its_share || passed_by.contains(&waiting.app) {
                passed_by.insert(waiting.app.clone());
                self.waiting.push_back(waiting);
            } else if waiting.units > self.free {
                is_full = true;
                self.waiting.push_back(waiting);
            } else {
                self.free -= waiting.units;
                *self.held.entry(waiting.app.clone()).or_default() += waiting.units;
                admitted.push(waiting);
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

    /// Asks for one unit for `app`, and never gives up.
    fn unit(shares: &Shares, app: &str) -> Pin<Box<dyn Future<Output = Option<Room>>>> {
        let (shares, app) = (shares.clone(), AppId::from(app));
        Box::pin(async move { shares.room(&app, 1, pending()).await })
    }

    /// Asks for a unit `times` times, and returns the units that are there at once.
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
            let taken = take(&shares, app, 40).await;
            assert_eq!(taken.len(), share, "{app}");
            rooms.extend(taken);
        }
        assert!(take(&shares, "h", 1).await.is_empty());
        drop(rooms);
        assert_eq!(take(&shares, "a", 40).await.len(), 32, "all of it is free again");
        assert!(shares.state().held.is_empty(), "no application holds any");
        assert!(shares.state().waiting.iter().all(|caller| caller.admitted.is_closed()));
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
        let (large, small) = ("b".into(), "c".into());
        let mut first = Box::pin(shares.room(&large, 2, over.notified()));
        let mut second = Box::pin(shares.room(&small, 1, pending()));
        assert!(poll!(&mut first).is_pending());
        assert!(poll!(&mut second).is_pending());
        over.notify_one();
        assert!(matches!(poll!(&mut first), Poll::Ready(None)));
        assert!(poll!(&mut second).is_ready());
    }
}
