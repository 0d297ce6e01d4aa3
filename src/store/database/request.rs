//! The request that a task serves: which customer it is from, and which bytes are reserved for it.
//!
//! Statements find here whose turn they wait for (turns), and whoever holds a body or a page reserves its bytes here (budget),
//! so that nothing has to be passed along. What is reserved is given back when the request has been handled, but for what is
//! taken along: by a message that waits to be stored, by a response that waits to be read.

use std::cell::Cell;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use super::budget::{Customer, Reserved};
use crate::error::Result;

/// A response as large as this is in memory for as long as its client likes; smaller ones are as many as connections, at most.
const LARGE: usize = 16 << 10;

tokio::task_local! {
    static REQUEST: Request;
}

/// Used by the one task that serves the request.
struct Request {
    /// It changes nothing, so it may be refused though its response is there.
    is_read: bool,
    /// Set once, when the token is proven.
    customer: OnceLock<Arc<Customer>>,
    /// Bytes that are given back at the end.
    reserved: Cell<usize>,
}

impl Drop for Request {
    fn drop(&mut self) {
        if let Some(customer) = self.customer.get() {
            customer.give_back(self.reserved.get());
        }
    }
}

/// Runs a request whose statements wait for their customer's turn. Outside of it no statement waits, and nothing is reserved.
pub fn serve<F: Future>(is_read: bool, request: F) -> impl Future<Output = F::Output> {
    let scope = Request {
        is_read,
        customer: OnceLock::new(),
        reserved: Cell::new(0),
    };
    REQUEST.scope(scope, request)
}

/// Sets the customer whose request the current task serves. Until then it counts as one of an unnamed customer.
pub fn set_customer(customer: &Arc<Customer>) {
    let _ = REQUEST.try_with(|request| request.customer.set(customer.clone()).is_ok());
}

/// `None` outside of a request; the customer is `None` until it is known.
pub(crate) fn customer() -> Option<Option<Arc<Customer>>> {
    REQUEST.try_with(|request| request.customer.get().cloned()).ok()
}

/// Reserves so many bytes more for the current request, before they are held.
///
/// # Errors
/// `Unavailable` when there is no room in time.
pub async fn reserve(bytes: usize) -> Result<()> {
    let Some(customer) = customer().flatten() else {
        return Ok(());
    };
    customer.reserve(bytes).await?;
    add(bytes);
    Ok(())
}

/// The same for what is held beside something that is no smaller and reserved: a little is not worth it.
///
/// # Errors
/// As [`reserve`].
pub async fn reserve_large(bytes: usize) -> Result<()> {
    match bytes < LARGE {
        true => Ok(()),
        false => reserve(bytes).await,
    }
}

/// Takes so many bytes along, beyond the end of the request: of those that are reserved for it, and more where they are
/// not enough. `None` outside of a request.
///
/// # Errors
/// `Unavailable` when there is no room in time.
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

/// Returns a response's body whose bytes are reserved until it has been sent. That of a write is never refused: its caller
/// would take what is stored for undone.
///
/// # Errors
/// `Unavailable` when there is no room now for the response to a read.
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

/// A body whose bytes are reserved as long as it is there.
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

fn split_off(customer: Arc<Customer>, bytes: usize) -> Reserved {
    let _ = REQUEST.try_with(|request| request.reserved.set(request.reserved.get().saturating_sub(bytes)));
    Reserved::of(customer, bytes)
}
