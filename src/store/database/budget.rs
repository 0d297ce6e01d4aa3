//! Limits the bytes of request bodies and pages that a process holds at once, and shares them out between customers.
//!
//! A task reserves such bytes before it holds them, and gives them back when the memory is free again. A customer may
//! have no more than it leaves free: alone it gets half, the next one half of the rest, and so on. So a customer with
//! small needs always finds room. A reservation that does not fit waits for up to two seconds for others to give bytes
//! back, and is then refused.
//!
//! Any task reserves and gives back. Two counters decide: that of all bytes, and the customer's own. A reservation is
//! an atomic addition to each of them, without a lock.
//!
//! Must not know what the bytes are used for.

use std::collections::HashMap;
use std::fmt;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::Notify;

use crate::error::{Error, Result};
use crate::telemetry::series::{Counter, Page};

/// The most bytes of all customers together. Reading, parsing and storing copy them for a moment; with these copies a
/// process stays below 200 MB, which a container of 512 MB has room for. One customer gets 16 bodies of 2 MB, or reads
/// 4 pages of 4 MiB at once, or leaves 7 of them unread.
const BYTES: usize = 64 << 20;
/// How long a reservation waits: longer than it takes to store a batch of large messages, shorter than clients wait.
const PATIENCE: Duration = Duration::from_secs(2);
/// How many reservations of one customer may wait; further ones are refused at once. Bytes that are given back wake all
/// of them, so their number must be small.
const SEATS: usize = 32;
/// How many customers are remembered before those without requests are looked for and forgotten.
const MANY: usize = 256;

/// A limit on the bytes that a process holds for requests.
pub struct Budget {
    /// In bytes.
    limit: usize,
    /// Bytes that are reserved.
    used: AtomicUsize,
    /// The number of reservations that wait.
    waiting: AtomicUsize,
    /// Notified when bytes are given back while reservations wait.
    freed: Notify,
    refusals: Counter,
    /// By name, so that all tokens of an application are one customer.
    customers: Mutex<HashMap<String, Weak<Customer>>>,
}

/// An application, or a token of an organization: its requests share limits.
pub struct Customer {
    name: String,
    budget: Arc<Budget>,
    /// Bytes that the customer has reserved.
    used: AtomicUsize,
    /// The number of its reservations that wait.
    waiting: AtomicUsize,
}

/// A reservation, which gives its bytes back when it is dropped.
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

    /// Returns the customer of this name. As long as it is in use, it is the same one for every caller.
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

    /// Returns how many bytes are reserved by all customers.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Adds the reserved bytes, their limit and the refusals to the page of metrics.
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
            "Requests answered with 503 because too many bytes of their customer, or of all, were reserved.",
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

    /// Reserves `bytes` more. If there is no room, waits for up to two seconds.
    ///
    /// # Errors
    /// `Unavailable` if there is no room in time, or if too many reservations of this customer wait already.
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
                // Before the next try: bytes that are given back after it then end the wait.
                freed.as_mut().enable();
                if self.take(bytes) {
                    return;
                }
                freed.await;
            }
        };
        tokio::time::timeout(PATIENCE, room).await.map_err(|_| self.refuse())
    }

    /// Reserves `bytes` more if there is room now.
    ///
    /// # Errors
    /// `Unavailable` if there is no room.
    pub fn reserve_now(&self, bytes: usize) -> Result<()> {
        match self.take(bytes) {
            true => Ok(()),
            false => Err(self.refuse()),
        }
    }

    /// Reserves `bytes` more, whether or not there is room.
    pub fn reserve_anyway(&self, bytes: usize) {
        self.budget.used.fetch_add(bytes, Ordering::SeqCst);
        self.used.fetch_add(bytes, Ordering::SeqCst);
    }

    /// Reserves `bytes` more if the customer then has no more than it leaves free. Returns whether it did.
    // Two reservations of one customer may both read its own count before either is added to it. Together they can get
    // a little more than the customer may have, but never more than the limit of all, which one atomic update checks.
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

    /// Gives reserved bytes back and wakes the reservations that wait.
    pub fn give_back(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        self.budget.used.fetch_sub(bytes, Ordering::SeqCst);
        // Read after the subtraction, while a reservation adds itself to `waiting` before it reads `used` again. In one
        // order of all these accesses (`SeqCst`) either it finds the bytes, or it is seen here and woken.
        if self.budget.waiting.load(Ordering::SeqCst) > 0 {
            self.budget.freed.notify_waiters();
        }
    }

    fn refuse(&self) -> Error {
        self.budget.refusals.add(1);
        Error::unavailable("too many large requests and pages, yours or others', are in progress; try again")
    }
}

impl Reserved {
    /// Wraps bytes of `customer` that are reserved already, so that dropping the result gives them back.
    pub fn of(customer: Arc<Customer>, bytes: usize) -> Self {
        Self { customer, bytes }
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.customer.give_back(self.bytes);
    }
}

/// Counts a reservation among those that wait, until it is dropped.
struct Seat<'a>(&'a Customer);

impl<'a> Seat<'a> {
    /// Returns `None` if too many reservations of the customer wait already.
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
        for reservation in &mut waiting {
            assert!(poll!(reservation).is_pending());
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
