//! Memory for large bodies: whose may be in it now. First come, first served, but an application holds no more than it
//! leaves free, and who waits for its own application's share lets others pass. Called by the sender.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

#[derive(Clone)]
pub(super) struct LargeBodies(Arc<Mutex<State>>);

struct State {
    kb: usize,
    free: usize,
    /// Kilobytes by application, of those that hold any.
    held: HashMap<Arc<str>, usize>,
    waiting: VecDeque<Waiting>,
}

struct Waiting {
    app: Arc<str>,
    kb: usize,
    admitted: oneshot::Sender<Room>,
}

/// Room for one body; dropped, it is free again.
pub(super) struct Room {
    bodies: LargeBodies,
    app: Arc<str>,
    kb: usize,
}

impl LargeBodies {
    /// So many kilobytes in all.
    pub fn new(kb: usize) -> Self {
        Self(Arc::new(Mutex::new(State {
            kb,
            free: kb,
            held: HashMap::new(),
            waiting: VecDeque::new(),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for room for a body of `app`. `None` when `gives_up` comes first.
    pub async fn room(&self, app: &Arc<str>, bytes: usize, gives_up: impl Future<Output = ()>) -> Option<Room> {
        let (admitted, answer) = oneshot::channel();
        {
            let mut state = self.state();
            let kb = (bytes / 1024 + 1).min(state.kb);
            state.waiting.push_back(Waiting {
                app: app.clone(),
                kb,
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
                bodies: self.clone(),
                app: one.app,
                kb: one.kb,
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
            let has_its_share = has > 0 && has + one.kb > self.free.saturating_sub(one.kb);
            if is_full || has_its_share || passed_by.contains(&one.app) {
                passed_by.insert(one.app.clone());
                self.waiting.push_back(one);
            } else if one.kb > self.free {
                is_full = true;
                self.waiting.push_back(one);
            } else {
                self.free -= one.kb;
                *self.held.entry(one.app.clone()).or_default() += one.kb;
                admitted.push(one);
            }
        }
        admitted
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut state = self.bodies.state();
        state.free += self.kb;
        if let Some(held) = state.held.get_mut(&self.app) {
            *held -= self.kb;
            if *held == 0 {
                state.held.remove(&self.app);
            }
        }
        drop(state);
        self.bodies.admit();
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

    const MB: usize = 1024 * 1024;

    /// Room for a megabyte of `app`; it never gives up.
    fn megabyte(bodies: &LargeBodies, app: &str) -> Pin<Box<dyn Future<Output = Option<Room>>>> {
        let (bodies, app) = (bodies.clone(), Arc::from(app));
        Box::pin(async move { bodies.room(&app, MB - 1, pending()).await })
    }

    /// Asks for a megabyte so many times; answers what is had at once.
    async fn take(bodies: &LargeBodies, app: &str, times: usize) -> Vec<Room> {
        let mut rooms = Vec::new();
        for _ in 0..times {
            if let Poll::Ready(Some(room)) = poll!(megabyte(bodies, app)) {
                rooms.push(room);
            }
        }
        rooms
    }

    #[tokio::test]
    async fn each_application_leaves_as_much_as_it_takes() {
        let bodies = LargeBodies::new(64 * 1024);
        let mut rooms = Vec::new();
        for (app, share) in [("a", 32), ("b", 16), ("c", 8), ("d", 4), ("e", 2), ("f", 1), ("g", 1)] {
            let its = take(&bodies, app, 40).await;
            assert_eq!(its.len(), share, "{app}");
            rooms.extend(its);
        }
        assert!(take(&bodies, "h", 1).await.is_empty());
        drop(rooms);
        assert_eq!(take(&bodies, "a", 40).await.len(), 32, "all of it is free again");
        assert!(bodies.state().held.is_empty(), "who holds nothing is forgotten");
        assert!(bodies.state().waiting.iter().all(|one| one.admitted.is_closed()));
    }

    #[tokio::test]
    async fn who_waits_for_its_own_share_lets_others_pass() {
        let bodies = LargeBodies::new(4 * 1024);
        let mut held = take(&bodies, "a", 2).await;
        let mut own = megabyte(&bodies, "a");
        assert!(poll!(&mut own).is_pending());
        assert_eq!(take(&bodies, "b", 1).await.len(), 1);
        held.pop();
        assert!(poll!(&mut own).is_ready());
    }

    #[tokio::test]
    async fn where_nothing_is_free_the_first_that_came_goes_first() {
        let bodies = LargeBodies::new(1024);
        let held = take(&bodies, "a", 1).await;
        let (mut first, mut second) = (megabyte(&bodies, "b"), megabyte(&bodies, "c"));
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
        let bodies = LargeBodies::new(2 * 1024);
        let _held = take(&bodies, "a", 1).await;
        let over = Notify::new();
        let (large, small) = (Arc::from("b"), Arc::from("c"));
        let mut first = Box::pin(bodies.room(&large, 2 * MB, over.notified()));
        let mut second = Box::pin(bodies.room(&small, 100, pending()));
        assert!(poll!(&mut first).is_pending());
        assert!(poll!(&mut second).is_pending());
        over.notify_one();
        assert!(matches!(poll!(&mut first), Poll::Ready(None)));
        assert!(poll!(&mut second).is_ready());
    }
}
