//! Knows the request that a task serves: its customer, and the bytes that are reserved for it.
//!
//! They are a task-local value, so that no function has to pass them along: statements find the customer whose turn
//! they wait for (turns.rs), and code that holds a body or a page reserves its bytes (budget.rs). At the end of the
//! request its bytes are given back, except for those that were split off: for a message that waits to be stored, or a
//! response that waits to be read.
//!
//! Must not know what a request asks for.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::budget::{Customer, Reserved};
use crate::error::Result;

/// From this size on, in bytes, a response reserves its memory until its client has read it, which may take long.
/// Smaller responses need no reservation: there is one for each connection at most.
const LARGE: usize = 16 << 10;

tokio::task_local! {
    static REQUEST: Request;
}

/// A request. Only the task that serves it reads and writes it.
struct Request {
    /// Whether the request changes nothing, so that it may be refused even when its response is ready.
    is_read: bool,
    /// Set once, when the token is proven.
    customer: OnceLock<Arc<Customer>>,
    /// Bytes that are reserved and will be given back at the end of the request.
    reserved: Cell<usize>,
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(customer) = self.customer.get() {
            customer.give_back(self.reserved.get());
        }
    }
}

/// Runs `request` so that its statements wait for turns of its customer, and its bytes are reserved. Outside of this
/// scope no statement waits for a turn, and nothing is reserved.
pub fn serve<F: Future>(is_read: bool, request: F) -> impl Future<Output = F::Output> {
    let scope = Request {
        is_read,
        customer: OnceLock::new(),
        reserved: Cell::new(0),
    };
    REQUEST.scope(scope, request)
}

/// Sets the customer of the request that the current task serves. Until then its statements take the turns of a
/// customer without a name, and nothing is reserved.
pub fn set_customer(customer: &Arc<Customer>) {
    let _ = REQUEST.try_with(|request| request.customer.set(customer.clone()).is_ok());
}

/// Returns the customer of the request that the current task serves. `None` means that the task serves none,
/// `Some(None)` that the customer is not known yet.
pub(crate) fn customer() -> Option<Option<Arc<Customer>>> {
    REQUEST.try_with(|request| request.customer.get().cloned()).ok()
}

/// Reserves `bytes` more for the current request, before they are held. Does nothing outside of a request.
///
/// # Errors
/// `Unavailable` if there is no room in time.
pub async fn reserve(bytes: usize) -> Result<()> {
    let Some(customer) = customer().flatten() else {
        return Ok(());
    };
    customer.reserve(bytes).await?;
    add(bytes);
    Ok(())
}

/// Reserves `bytes` as [`reserve`] does, but nothing for less than 16 KiB. For memory that is held beside something
/// that is reserved and no smaller: then a little more does not matter.
///
/// # Errors
/// As [`reserve`].
pub async fn reserve_large(bytes: usize) -> Result<()> {
    match bytes < LARGE {
        true => Ok(()),
        false => reserve(bytes).await,
    }
}

/// Splits off a reservation of `bytes` that lasts beyond the end of the request. It takes them from those of the
/// request, and reserves more if these do not suffice. Returns `None` outside of a request.
///
/// # Errors
/// `Unavailable` if there is no room in time.
pub(crate) async fn take_along(bytes: usize) -> Result<Option<Reserved>> {
    let Some(customer) = customer().flatten() else {
        return Ok(None);
    };
    let lacking = bytes.saturating_sub(reserved());
    if lacking > 0 {
        customer.reserve(lacking).await?;
        add(lacking);
    }
    Ok(Some(split_off(customer, bytes)))
}

/// Returns the body of a response with a reservation that lasts until its memory is freed, which is when the socket has
/// taken all of it. The response to a write is never refused: its caller would believe that nothing was stored.
///
/// # Errors
/// `Unavailable` if there is no room now for the response to a read.
pub fn keep(body: Vec<u8>) -> Result<Bytes> {
    if body.len() < LARGE {
        return Ok(body.into());
    }
    let Some(customer) = customer().flatten() else {
        return Ok(body.into());
    };
    let lacking = body.len().saturating_sub(reserved());
    let is_read = REQUEST.try_with(|request| request.is_read).unwrap_or_default();
    if lacking < LARGE || !is_read {
        customer.reserve_anyway(lacking);
    } else {
        customer.reserve_now(lacking)?;
    }
    add(lacking);
    let reserved = split_off(customer, body.len());
    Ok(Bytes::from_owner(Kept {
        body,
        _reserved: reserved,
    }))
}

/// A body and the reservation of its memory.
struct Kept {
    body: Vec<u8>,
    _reserved: Reserved,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

fn reserved() -> usize {
    REQUEST.try_with(|request| request.reserved.get()).unwrap_or_default()
}

fn add(bytes: usize) {
    let _ = REQUEST.try_with(|request| request.reserved.set(request.reserved.get() + bytes));
}

/// Moves `bytes` from the request's reservation into one of their own.
fn split_off(customer: Arc<Customer>, bytes: usize) -> Reserved {
    let _ = REQUEST.try_with(|request| request.reserved.set(request.reserved.get().saturating_sub(bytes)));
    Reserved::of(customer, bytes)
}
