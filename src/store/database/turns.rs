//! Limits how many statements of the API run at once, and shares them out between customers.
//!
//! Fewer statements run than the pool has connections, and a single customer has at most about half of them. A
//! statement waits first within its customer's limit, and then in one line with the statements of all customers. So
//! each customer has only a few statements in that line, and a new customer waits for those few, however many requests
//! another customer has sent.
//!
//! Must not know the statements.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sea_orm::DbErr;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How long a statement of the API waits for its turn. If the turn came later, the statement could not end in time.
pub(crate) const API_PATIENCE: Duration = Duration::from_secs(3);

/// How many statements of one customer may run or wait. Further ones are refused at once.
const SEATS: usize = 256;
/// How many customers are remembered before those without statements are looked for and forgotten.
const MANY: usize = 256;
/// The error if a turn does not come in time. `From<DbErr>` turns it into `Unavailable`, as it is no fault of the
/// database.
pub(crate) const BUSY: &str = "too many requests, yours or others', are waiting for the database; try again";

/// A limit on the statements that run at once, shared fairly between customers.
// Rejected: a queue of our own in the order of turns. Two semaphores, which serve in order, do the same.
pub(crate) struct Turns {
    /// The line of all customers: a permit for each statement that may run.
    all: Arc<Semaphore>,
    /// How many statements of one customer may run at once.
    of_one: usize,
    /// How long a statement waits for its turn.
    patience: Duration,
    /// By name.
    customers: Mutex<HashMap<String, Customer>>,
}

struct Customer {
    /// A permit for each statement that may run or wait.
    seats: Arc<Semaphore>,
    /// A permit for each statement that may run.
    running: Arc<Semaphore>,
}

/// The right to take a connection. It ends when this is dropped.
pub(crate) struct Turn {
    _all: OwnedSemaphorePermit,
    _own: OwnedSemaphorePermit,
    _seat: OwnedSemaphorePermit,
}

impl Turns {
    /// Makes turns for `most` statements at once, of which one customer has at most `of_one`. A statement whose turn
    /// has not come after `patience` is refused.
    pub fn new(most: u32, of_one: u32, patience: Duration) -> Arc<Self> {
        Arc::new(Self {
            all: Arc::new(Semaphore::new(most as usize)),
            of_one: of_one as usize,
            patience,
            customers: Mutex::default(),
        })
    }

    /// Makes turns for a pool of `connections`: all but one may be taken at once, and half of these by one customer.
    pub fn within(connections: u32, patience: Duration) -> Arc<Self> {
        let most = connections.saturating_sub(1).max(1);
        Self::new(most, most.div_ceil(2), patience)
    }

    /// Waits for a turn of `customer`.
    ///
    /// # Errors
    /// [`BUSY`] if the turn does not come in time, or too many statements of this customer run or wait already.
    pub async fn enter(&self, customer: &str) -> Result<Turn, DbErr> {
        let busy = || DbErr::Custom(BUSY.to_owned());
        let (seat, running) = self.sit(customer).ok_or_else(busy)?;
        let turn = async {
            // The customer's own limit first, so that only a few statements of one customer stand in the line of all.
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

    /// Takes a seat of `customer`. Returns it with the semaphore of the customer's running statements, or `None` if all
    /// its seats are taken.
    fn sit(&self, customer: &str) -> Option<(OwnedSemaphorePermit, Arc<Semaphore>)> {
        let mut customers = self.customers.lock().unwrap_or_else(PoisonError::into_inner);
        if customers.len() >= MANY {
            // Seats are taken only under this lock, so a customer whose seats are all free has no statement that runs
            // or waits, and cannot get one meanwhile.
            customers.retain(|_, known| known.seats.available_permits() < SEATS);
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

    /// Polls a wait for a turn once. `None` means that the turn has not come.
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
        for turn in &mut waiting {
            assert!(poll!(turn).is_pending());
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
