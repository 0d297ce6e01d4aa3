//! Decides from the replies that idempotency keys have which members of a batch are stored, and what each caller gets.
//!
//! Must not query the database.

use std::collections::{HashMap, HashSet};

use super::member::Accepted;
use super::plan::Plan;
use crate::domain::typed_id::MessageId;
use crate::error::{Error, Kind, Result};
use crate::store::idempotency::{Key, another_body};
use crate::store::message_reply::{Malformed, MessageReply};

/// The replies that keys have in the database.
pub(super) type Replies<'a> = HashMap<&'a Key, String>;

/// A member whose key has the reply of another message.
pub(super) struct Repeat<'a> {
    /// The reply of the message that has the key.
    pub reply: MessageReply<'a>,
    pub plan: &'a Plan<'a>,
}

/// Returns the members' keys, each with the reply that it is to have. If several members bring the same key, the reply
/// is that of the first one.
pub(super) fn keyed<'a>(plans: &[Option<Plan<'a>>]) -> Vec<(&'a Key, String)> {
    let mut seen = HashSet::new();
    let plans = plans.iter().flatten();
    let keys = plans.filter_map(|plan| Some((plan.member.message.key.as_ref()?, plan)));
    keys.filter(|(key, _)| seen.insert(*key))
        .map(|(key, plan)| (key, plan.reply().to_string()))
        .collect()
}

/// Returns whether a member is to be stored: its key has no reply yet, or the member's own, or it has no key.
pub(super) fn is_fresh(plan: &Plan, replies: &Replies) -> bool {
    find(plan, replies).is_none_or(|reply| reply == Ok(plan.reply()))
}

/// Returns the stored reply of the member's key; `None` if it has no key, or the key has no reply.
fn find<'r>(plan: &Plan, replies: &'r Replies) -> Option<std::result::Result<MessageReply<'r>, Malformed>> {
    let reply = replies.get(plan.member.message.key.as_ref()?)?;
    Some(MessageReply::try_from(reply.as_str()))
}

/// Returns the members whose key has another message's reply.
pub(super) fn repeats<'a>(plans: &'a [Option<Plan<'a>>], replies: &'a Replies) -> Vec<Repeat<'a>> {
    let repeated = plans.iter().flatten().filter_map(|plan| {
        let reply = find(plan, replies)?.ok()?;
        Some(Repeat { reply, plan })
    });
    repeated
        .filter(|repeat| repeat.reply.message_id != repeat.plan.member.id.as_str())
        .collect()
}

/// Returns the result for each plan of a batch that was stored as a whole.
pub(super) fn all_stored(plans: &[Option<Plan>]) -> Vec<Result<Accepted>> {
    let accepted = |plan: &Plan| accepted(plan.reply(), false);
    let result = |plan: &Option<Plan>| {
        plan.as_ref()
            .map(accepted)
            .ok_or_else(|| Error::not_found("application"))
    };
    plans.iter().map(result).collect()
}

/// Makes the result of a stored message from its reply.
fn accepted(reply: MessageReply<'_>, replayed: bool) -> Accepted {
    Accepted {
        app_id: reply.app_id.to_owned(),
        message_id: reply.message_id.to_owned(),
        created_at: reply.created_at,
        replayed,
    }
}

/// Returns the result for each plan. `is_stored` tells whether the message of a fresh member, given by its id, was
/// stored. `different` are the ids of the members that differ from the message that has their key.
pub(super) fn results(
    plans: &[Option<Plan>],
    replies: &Replies,
    is_stored: impl Fn(&MessageId) -> bool,
    different: &HashSet<MessageId>,
) -> Vec<Result<Accepted>> {
    let conflict = || Error::new(Kind::Conflict, "eventId: a message of this application has it already");
    let fresh = plans.iter().flatten().filter(|plan| is_fresh(plan, replies));
    let refused: HashSet<&str> = fresh
        .map(|plan| &plan.member.id)
        .filter(|id| !is_stored(id))
        .map(MessageId::as_str)
        .collect();
    let result = |plan: &Option<Plan>| {
        let Some(plan) = plan else {
            return Err(Error::not_found("application"));
        };
        let reply = find(plan, replies).unwrap_or_else(|| Ok(plan.reply()));
        let reply = reply.map_err(|Malformed| Error::internal("a stored reply is no message's"))?;
        if different.contains(&plan.member.id) {
            return Err(another_body());
        }
        // If the same key comes twice in a batch, the later member gets the result of the first one.
        if refused.contains(reply.message_id) {
            return Err(conflict());
        }
        Ok(accepted(reply, reply.message_id != plan.member.id.as_str()))
    };
    plans.iter().map(result).collect()
}
