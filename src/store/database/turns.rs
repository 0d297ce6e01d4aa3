//! Limits how many statements of the API run at once, and shares them out between customers.
//!
//! Fewer run than the pool has connections, and fewer of one customer than of all. A statement first waits within its
//! customer's limit, then in one line with those of all others. So each customer has no more than a few in that line, and a
//! newcomer waits for those few, however many requests one customer has sent. Must not know what is asked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sea_orm::DbErr;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long the API's work waits for its turn; what comes after that could not end in time.
pub(crate) const API_PATIENCE: Duration = Duration::from_secs(3);

/// Statements of one customer that may run and wait. More of them are refused at once.
const SEATS: usize = 256;
/// Customers that are remembered before those with nothing to do are looked for.
const MANY: usize = 256;
/// The refusal when a turn does not come in time. It becomes `Unavailable`, not a fault of the database.
pub(crate) const BUSY: &str = "too many requests of yours or of others are at the database; try again";

/// A limit on what runs at once, shared fairly between customers.
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    of_one: usize,
    patience: Duration,
    customers: Mutex<HashMap<String, Customer>>,
}

struct Customer {
    seats: Arc<Semaphore>,
    running: Arc<Semaphore>,
}

/// The right to take a connection, until it is dropped.
pub(crate) struct Turn {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _seat: OwnedSemaphorePermit,
}

impl Turns {
    /// `most` at once, `of_one` customer at once; a turn that has not come after `patience` is refused.
    pub fn new(most: u32, of_one: u32, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            all: Arc::new(Semaphore::new(most as usize)),
            of_one: of_one as usize,
            patience,
            customers: Mutex::default(),
        })
    }

    /// For a pool of `connections`: all but one at once, and half of those for one customer.
    pub fn within(connections: u32, patience: Duration) -> Arc<Self> {
        let most = connections.saturating_sub(1).max(1);
        Self::new(most, most.div_ceil(2), patience)
    }

    /// Waits for a turn of `customer`.
    ///
    /// # Errors
    /// [`BUSY`], when it has not come in time, or too many of this customer wait already.
    pub async fn enter(&self, customer: &str) -> Result<Turn, DbErr> {
        let busy = || DbErr::Custom(BUSY.to_owned());
        let (seat, running) = self.sit(customer).ok_or_else(busy)?;
        let turn = async {
            // The customer's own limit first, so that few of one customer stand in the line of all.
            let own = running.acquire_owned().await.ok()?;
            let all = self.all.clone().acquire_owned().await.ok()?;
            Some((own, all))
        };
        let turn = tokio::time::timeout(self.patience, turn).await;
        let (own, all) = turn.ok().flatten().ok_or_else(busy)?;
        Ok(Turn {
            _all: all,
            _own: own,
            _seat: seat,
        })
    }

    fn sit(&self, customer: &str) -> Option<(OwnedSemaphorePermit, Arc<Semaphore>)> {
        let mut customers = self.customers.lock().unwrap_or_else(PoisonError::into_inner);
        if customers.len() >= MANY {
            // Seats are taken under this lock only, so a customer with all seats free has nothing running or waiting.
            customers.retain(|_, one| one.seats.available_permits() < SEATS);
        }
        if !customers.contains_key(customer) {
            let new = Customer {
                seats: Arc::new(Semaphore::new(SEATS)),
                running: Arc::new(Semaphore::new(self.of_one)),
            };
            customers.insert(customer.to_owned(), new);
        }
        let own = &customers[customer];
        let seat = own.seats.clone().try_acquire_owned().ok()?;
        Some((seat, own.running.clone()))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(60);

    /// Polls once whether `customer` gets a turn now.
    macro_rules! now {
        ($waiting:expr) => {
            match poll!(&mut $waiting) {
                std::task::Poll::Ready(turn) => Some(turn.expect("a turn")),
                std::task::Poll::Pending => None,
            }
        };
    }

    #[tokio::test]
    async fn one_customer_never_has_all_turns_and_others_come_before_its_next() {
        let turns = Turns::within(4, PATIENCE);
        let (first, second) = (turns.enter("a").await.unwrap(), turns.enter("a").await.unwrap());
        let mut third = Box::pin(turns.enter("a"));
        assert!(now!(third).is_none(), "one customer has its share");
        let other = turns.enter("b").await.unwrap();
        let mut another = Box::pin(turns.enter("c"));
        assert!(now!(another).is_none(), "all are taken");
        drop(first);
        assert!(
            now!(third).is_none(),
            "it stands behind the one that came to the line first"
        );
        let another = now!(another).expect("its turn has come");
        drop(second);
        assert!(now!(third).is_some());
        drop((other, another));
    }

    #[tokio::test]
    async fn waiters_who_leave_leave_their_places() {
        let turns = Turns::new(1, 1, PATIENCE);
        let held = turns.enter("a").await.unwrap();
        let mut waiting = Box::pin(turns.enter("b"));
        assert!(now!(waiting).is_none());
        drop(held);
        drop(waiting);
        assert!(turns.enter("c").await.is_ok());
    }

    #[tokio::test]
    async fn one_turn_that_does_not_come_in_time_is_refused_and_so_is_one_too_many() {
        let turns = Turns::new(1, 1, Duration::ZERO);
        let held = turns.enter("a").await.unwrap();
        let late = turns.enter("b").await.err().expect("it is refused");
        assert_eq!(late, DbErr::Custom(BUSY.to_owned()));
        drop(held);
        let turns = Turns::new(1, 1, PATIENCE);
        let _held = turns.enter("a").await.unwrap();
        let mut waiting: Vec<_> = (1..SEATS).map(|_| Box::pin(turns.enter("a"))).collect();
        for one in &mut waiting {
            assert!(poll!(one).is_pending());
        }
        assert!(turns.enter("a").await.is_err(), "its seats are taken");
        assert!(poll!(Box::pin(turns.enter("b"))).is_pending(), "others have theirs");
    }

    #[tokio::test]
    async fn customers_without_work_are_forgotten() {
        let turns = Turns::new(2, 2, PATIENCE);
        let held = turns.enter("held").await.unwrap();
        for number in 0..3 * MANY {
            drop(turns.enter(&number.to_string()).await.unwrap());
        }
        let customers = turns.customers.lock().unwrap();
        assert!(customers.len() <= MANY + 1 && customers.contains_key("held"));
        drop(held);
    }
}
