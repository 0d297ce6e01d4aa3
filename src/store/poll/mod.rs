//! The messages of pollers: which epoch numbers their transactions, how a page is read, and which polls wait
//! for the next one.
//!
//! A poller's messages have one order: that of the numbers of the transactions that stored them, then that of their ids.
//! A page ends before the oldest transaction that is still open, because that one may add messages there. Ids alone would
//! not do as an order: they are made before the commit, so one that was made early may become visible late, after a
//! reader has passed it.
//!
//! Must not store messages: the intake does, with their rows.

pub(super) mod epoch;
mod keeps;
mod notify;
mod probe;
mod read;
mod seek;
pub mod waits;
mod watch;

pub use epoch::register;
pub use keeps::list_keeps;
pub(super) use notify::{CHANNEL, announce, heard};
pub use probe::{Backlog, find_oldest_writer, list_backlogs};
pub use read::{Filter, Item, Read, read};
pub use seek::{Reader, Sought, seek};
pub use watch::{look, run as watch};
