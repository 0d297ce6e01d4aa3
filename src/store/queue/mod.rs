//! The statements of the queue, which is the table `delivery`: claim, settle, release, park, take over, replay, resend,
//! and how many deliveries wait.
//!
//! A row is due, leased or parked. `due_at` is the instant at which it is due or at which its lease ends, so a lease
//! that ends makes its row due without a further step; null means parked. Must not send, and must not decide what an
//! outcome means.

mod claim;
mod claim_parked;
mod claimed;
mod depth;
mod disabled;
mod events;
pub(crate) mod floors;
mod health;
mod ids;
mod lease;
mod lift;
pub(crate) mod notify;
mod overview;
mod park;
mod planner_statistics;
pub mod process;
mod replay;
mod resend;
mod settle;
mod settlement;

pub use claim::{claim, claim_statement};
pub use claim_parked::{ParkedClaim, claim_parked, claim_parked_statement};
pub use depth::{DEPTH_MOST, Depth, find_depth, find_oldest_snapshot, find_parked_depth};
pub use lease::{
    Content, LARGE_BODY, Lease, LeaseKey, LeaseTerms, TARGET_BUT_HEADERS, Target, TargetRow, extend, find_body,
    release, release_lost,
};
pub use lift::lift;
pub use overview::{EndpointQueue, Overview, find_overview};
pub use park::{list_parked, park};
pub use planner_statistics::renew_statistics;
pub use replay::{count_parked, find_replay_target, replay_next};
pub use resend::insert_manual;
pub use settle::settle;
pub use settlement::{AttemptRow, Settled, Settlement};
