//! The queue's statements: claim, settle, release, park, take over, resend, and how deep it is. Rules: delivery-queue in ARCHITECTURE.md.

mod claim;
mod depth;
mod events;
mod lease;
mod park;
mod replay;
mod resend;
mod settle;
mod standing;
mod statistics;

pub use claim::{claim, claim_parked, claim_statement};
pub use depth::{DEPTH_MOST, Depth, find_depth};
pub use lease::{
    Content, LARGE_BODY, Lease, LeaseTerms, TARGET_BUT_HEADERS, Target, TargetRow, Throttle, find_body, release,
};
pub use park::{list_parked, park};
pub use replay::{count_parked, find_replay_target, replay_next};
pub use resend::insert_manual;
pub use settle::{AttemptRow, Settlement, settle};
pub use statistics::renew_statistics;
