//! Limits the bytes of request bodies and pages that a process holds at once, and shares them out between customers.
//!
//! Whoever is about to hold such bytes reserves them first, and gives them back when the memory is free again. A customer may
//! have no more than it leaves free: alone it gets half, and a second one half of the rest, so there is always room for those
//! who have little. What does not fit waits for a moment, in the hope that others give something back, and is refused then.
//!
//! Any task reserves and gives back. Two counters decide, one of all and the customer's own; a reservation is an atomic addition
//! to each, made under no lock. Must not know what the bytes are.

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::error::{Error, Result};
use crate::telemetry::series::{Counter, Page};

/// Bytes of all customers. With what reading, parsing and storing copies of it for a moment a process stays below 200 MB, and
/// has room enough in a container of 512 MB; one customer gets 16 bodies of 2 MB, reads 4 pages of 4 MiB
/// at once, or leaves 7 unread.
const BYTES: usize = 64 << 20;
/// How long a reservation waits: longer than a batch of large messages takes to be stored, shorter than clients wait.
const PATIENCE: Duration = Duration::from_secs(2);
/// Reservations of one customer that may wait; more are refused at once. All that wait are woken by each that ends.
const SEATS: usize = 32;
/// Customers that are remembered before those that are gone are looked for.
const MANY: usize = 256;

/// A limit on the bytes that a process holds for requests.
pub struct Budget {
    limit: usize,
    used: AtomicUsize,
    /// Reservations that wait.
    waiting: AtomicUsize,
    /// Told whenever something is given back while some wait.
    freed: Notify,
    refusals: Counter,
    /// By name, so that the tokens of an application share one.
    customers: Mutex<HashMap<String, Weak<Customer>>>,
}

/// Whose requests share limits: an application, or a token of an organization.
pub struct Customer {
    name: String,
    budget: Arc<Budget>,
    used: AtomicUsize,
    waiting: AtomicUsize,
}

/// Bytes that are reserved until this is dropped.
pub struct Reserved {
    customer: Arc<Customer>,
    bytes: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self::of(BYTES)
    }
}

impl Budget {
    fn of(limit: usize) -> Self {
        Self {
            limit,
            used: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
            freed: Notify::new(),
            refusals: Counter::new(),
            customers: Mutex::default(),
        }
    }

    /// Returns the customer of this name, the same one as long as anyone has it.
    pub fn customer(self: &Arc<Self>, name: &str) -> Arc<Customer> {
        let mut customers = self.customers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = customers.get(name).and_then(Weak::upgrade) {
            return known;
        }
        if customers.len() >= MANY {
            customers.retain(|_, customer| customer.strong_count() > 0);
        }
        let new = Arc::new(Customer {
            name: name.to_owned(),
            budget: self.clone(),
            used: AtomicUsize::new(0),
            waiting: AtomicUsize::new(0),
        });
        customers.insert(name.to_owned(), Arc::downgrade(&new));
        new
    }

    /// Returns how many bytes are reserved.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Adds what is reserved to the page of metrics.
    pub fn write(&self, page: &mut Page) {
        page.gauge(
            "postrider_request_bytes",
            "Bytes of request bodies and pages that are reserved.",
            self.used() as f64,
        );
        page.gauge(
            "postrider_request_bytes_max",
            "Bytes that may be reserved; no customer gets more than it leaves free.",
            self.limit as f64,
        );
        page.counter(
            "postrider_request_bytes_refusals_total",
            "Requests that were answered 503 as too many bytes of their customer, or of all, were reserved.",
            &self.refusals,
        );
    }
}

impl fmt::Debug for Customer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl Customer {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reserves so many bytes more; waits for a moment if there is no room.
    ///
    /// # Errors
    /// `Unavailable` when there is no room in time, or too much of this customer waits already.
    pub async fn reserve(&self, bytes: usize) -> Result<()> {
        if self.take(bytes) {
            return Ok(());
        }
        let Some(_seat) = Seat::take(self) else {
            return Err(self.refuse());
        };
        let room = async {
            loop {
                let mut freed = pin!(self.budget.freed.notified());
                // Before the next look, so that nothing that is given back after it is missed.
                freed.as_mut().enable();
                if self.take(bytes) {
                    return;
                }
                freed.await;
            }
        };
        tokio::time::timeout(PATIENCE, room).await.map_err(|_| self.refuse())
    }

    /// Reserves so many bytes more if there is room now.
    ///
    /// # Errors
    /// `Unavailable` when there is none.
    pub fn reserve_now(&self, bytes: usize) -> Result<()> {
        match self.take(bytes) {
            true => Ok(()),
            false => Err(self.refuse()),
        }
    }

    /// Reserves so many bytes more whether or not there is room.
    pub fn reserve_anyway(&self, bytes: usize) {
        self.budget.used.fetch_add(bytes, Ordering::SeqCst);
        self.used.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Two of one customer at the same instant may get a little more than its share, never more than there is.
    fn take(&self, bytes: usize) -> bool {
        if bytes == 0 {
            return true;
        }
        let limit = self.budget.limit.saturating_sub(bytes);
        let own = self.used.load(Ordering::SeqCst).saturating_add(bytes);
        let fits = |all: usize| (own.saturating_add(all) <= limit).then(|| all + bytes);
        let taken = self.budget.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, fits);
        if taken.is_ok() {
            self.used.fetch_add(bytes, Ordering::SeqCst);
        }
        taken.is_ok()
    }

    /// Gives back what was reserved.
    pub fn give_back(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        self.budget.used.fetch_sub(bytes, Ordering::SeqCst);
        if self.budget.waiting.load(Ordering::SeqCst) > 0 {
            self.budget.freed.notify_waiters();
        }
    }

    fn refuse(&self) -> Error {
        self.budget.refusals.add(1);
        Error::unavailable("too many large requests and pages of yours or of others are under way; try again")
    }
}

impl Reserved {
    /// Bytes that are reserved already, to be given back when this is dropped.
    pub fn of(customer: Arc<Customer>, bytes: usize) -> Self {
        Self { customer, bytes }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.customer.give_back(self.bytes);
    }
}

/// A reservation's place among those that wait.
struct Seat<'a>(&'a Customer);

impl<'a> Seat<'a> {
    fn take(customer: &'a Customer) -> Option<Self> {
        customer.budget.waiting.fetch_add(1, Ordering::SeqCst);
        let before = customer.waiting.fetch_add(1, Ordering::SeqCst);
        let seat = Self(customer);
        (before < SEATS).then_some(seat)
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
        self.0.budget.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;
    use crate::store::database::request;

    fn customers(limit: usize) -> (Arc<Budget>, Arc<Customer>, Arc<Customer>) {
        let budget = Arc::new(Budget::of(limit));
        let (a, b) = (budget.customer("a"), budget.customer("b"));
        (budget, a, b)
    }

    #[test]
    fn a_customer_gets_no_more_than_it_leaves_free() {
        let (budget, a, b) = customers(100);
        assert!(a.take(30) && a.take(20) && !a.take(1), "half, while it is alone");
        assert!(b.take(25) && !b.take(1), "half of the rest");
        assert!(budget.customer("c").take(12));
        a.give_back(50);
        assert!(b.take(10));
        assert!(!budget.customer("d").take(101), "more than there is");
    }

    #[test]
    fn tokens_of_one_application_share_one_customer_as_long_as_it_is_known() {
        let (budget, a, _b) = customers(100);
        assert!(Arc::ptr_eq(&a, &budget.customer("a")));
        for number in 0..3 * MANY {
            drop(budget.customer(&number.to_string()));
        }
        assert!(budget.customers.lock().unwrap().len() <= MANY + 1);
        assert!(Arc::ptr_eq(&a, &budget.customer("a")), "it is still there");
    }

    #[tokio::test]
    async fn what_does_not_fit_waits_until_enough_is_given_back() {
        let (_budget, a, b) = customers(100);
        a.reserve_now(50).unwrap();
        let mut second = pin!(a.reserve(20));
        assert!(poll!(&mut second).is_pending());
        b.reserve_now(5).unwrap();
        b.give_back(5);
        assert!(poll!(&mut second).is_pending(), "not enough");
        a.give_back(30);
        assert!(poll!(&mut second).is_ready());
    }

    #[tokio::test]
    async fn more_of_one_customer_than_may_wait_are_refused_at_once_and_counted() {
        let (budget, a, b) = customers(100);
        a.reserve_now(50).unwrap();
        let mut waiting: Vec<_> = (0..SEATS).map(|_| Box::pin(a.reserve(20))).collect();
        for one in &mut waiting {
            assert!(poll!(one).is_pending());
        }
        assert!(a.reserve(20).await.is_err());
        assert_eq!(budget.refusals.get(), 1);
        assert!(poll!(Box::pin(b.reserve(50))).is_pending(), "others may wait");
        drop(waiting);
        assert_eq!(budget.waiting.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_response_is_kept_without_room_if_its_request_was_a_write() {
        let (budget, a, _b) = customers(100);
        for is_read in [true, false] {
            let (customer, body) = (a.clone(), vec![0; 64 << 10]);
            let kept = request::serve(is_read, async move {
                request::set_customer(&customer);
                request::keep(body)
            });
            assert_eq!(kept.await.is_ok(), !is_read);
        }
        assert_eq!(budget.used.load(Ordering::SeqCst), 0, "it is given back");
    }

    #[test]
    fn what_is_reserved_is_given_back_with_its_owner() {
        let (budget, a, _b) = customers(100);
        a.reserve_now(40).unwrap();
        drop(Reserved::of(a.clone(), 40));
        assert_eq!(
            (budget.used.load(Ordering::SeqCst), a.used.load(Ordering::SeqCst)),
            (0, 0)
        );
    }
}
