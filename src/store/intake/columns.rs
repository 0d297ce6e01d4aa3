//! Lists the columns that a batch fills, each list once, with the values of the rows. Both ways to store a batch use
//! them.
//!
//! A new column of one of these tables needs a line here. Must not know how values are bound.

use super::place::DeliveryRow;
use super::plan::Plan;
use crate::store::database::rows::Column;
use crate::store::idempotency::Key;

/// A column's name and its values, in the order of the rows.
pub(super) type NamedColumn<'a> = (&'static str, Column<'a>);

/// Values of messages, with the names of the columns that take them.
pub(super) struct Field<'a> {
    /// `None` means that `message` does not have these values.
    pub message: Option<&'static str>,
    /// `None` means that `message_content` does not have these values.
    pub content: Option<&'static str>,
    pub values: Column<'a>,
}

impl<'a> Field<'a> {
    fn both(message: &'static str, content: &'static str, values: Column<'a>) -> Self {
        Self {
            message: Some(message),
            content: Some(content),
            values,
        }
    }

    fn message(name: &'static str, values: Column<'a>) -> Self {
        Self {
            message: Some(name),
            content: None,
            values,
        }
    }

    fn content(name: &'static str, values: Column<'a>) -> Self {
        Self {
            message: None,
            content: Some(name),
            values,
        }
    }
}

/// The column that is null in all messages of a usual batch.
pub(super) const EVENT_ID: &str = "event_id";
/// The column that is null in all messages of a batch without tags.
pub(super) const TAGS: &str = "tags";

/// Returns the columns of `message` and `message_content`: one list, because they share values.
pub(super) fn of_messages<'a>(plans: &'a [&Plan<'_>]) -> [Field<'a>; 10] {
    let event_id = |plan: &'a &Plan| plan.member.message.event_id.as_deref();
    let content_type = |plan: &'a &Plan| plan.member.message.content_type.as_deref();
    [
        Field::both("app_id", "app_id", text(plans, |plan| plan.app.id.as_str())),
        Field::both("id", "message_id", text(plans, |plan| plan.member.id.as_str())),
        Field::both("expires_at", "expires_at", int(plans, |plan| plan.expires_at())),
        Field::message("event_type", text(plans, |plan| &plan.member.message.event_type)),
        Field::message(EVENT_ID, maybe_text(plans, event_id)),
        Field::message("channels", maybe_text(plans, |plan| plan.channels.as_deref())),
        Field::message(TAGS, maybe_text(plans, |plan| plan.tags.as_deref())),
        Field::message("created_at", int(plans, |plan| plan.member.created_at.0)),
        Field::content("body", text(plans, |plan| &plan.member.message.body)),
        Field::content("content_type", maybe_text(plans, content_type)),
    ]
}

/// Returns the columns of `delivery`, except those that are the same in all new rows.
pub(super) fn of_deliveries(rows: &[DeliveryRow]) -> [NamedColumn<'_>; 7] {
    [
        ("id", text(rows, |row| row.id.as_str())),
        ("app_id", text(rows, |row| row.app_id.as_str())),
        ("message_id", text(rows, |row| row.message_id.as_str())),
        ("endpoint_id", text(rows, |row| row.endpoint_id.as_str())),
        ("due_at", maybe_int(rows, |row| row.due_at.map(|at| at.0))),
        ("owner", maybe_text(rows, |row| row.owner())),
        ("lease_id", maybe_int(rows, |row| row.lease_id())),
    ]
}

/// Returns the columns of `message_tag`: a row for each tag of the messages.
pub(super) fn of_tags<'a>(plans: &'a [&Plan<'_>]) -> [NamedColumn<'a>; 3] {
    let rows = || {
        plans
            .iter()
            .flat_map(|plan| plan.member.message.tags.iter().map(move |tag| (*plan, tag)))
    };
    [
        (
            "app_id",
            Column::Text(rows().map(|(plan, _)| plan.app.id.as_str()).collect()),
        ),
        (
            "message_id",
            Column::Text(rows().map(|(plan, _)| plan.member.id.as_str()).collect()),
        ),
        ("tag", Column::Text(rows().map(|(_, tag)| tag.as_str()).collect())),
    ]
}

/// Returns the columns of `poll_item` but `tx`, which is the same in all rows: a row for each poller that gets a message.
pub(super) fn of_items<'a>(plans: &'a [&Plan<'_>]) -> [NamedColumn<'a>; 2] {
    let rows = || {
        plans
            .iter()
            .flat_map(|plan| plan.pollers.iter().map(move |poller| (*plan, poller)))
    };
    [
        (
            "poller_number",
            Column::Int(rows().map(|(_, poller)| poller.0).collect()),
        ),
        (
            "message_id",
            Column::Text(rows().map(|(plan, _)| plan.member.id.as_str()).collect()),
        ),
    ]
}

/// Returns whether a poller gets one of the messages. Other batches are stored as if there were no pollers at all.
pub(super) fn has_items(plans: &[&Plan<'_>]) -> bool {
    plans.iter().any(|plan| !plan.pollers.is_empty())
}

/// Returns whether one of the messages has a tag. Batches without tags are stored as if there were none at all.
pub(super) fn has_tags(plans: &[&Plan<'_>]) -> bool {
    plans.iter().any(|plan| !plan.member.message.tags.is_empty())
}

/// Returns the columns of `idempotency` except `expires_at`. The rows are sorted, so that two batches cannot deadlock.
pub(super) fn of_keys<'a>(keyed: &'a [(&Key, String)]) -> [NamedColumn<'a>; 3] {
    let mut sorted: Vec<_> = keyed.iter().map(|(key, reply)| (*key, reply.as_str())).collect();
    sorted.sort_by_key(|(key, _)| (&key.scope, &key.key));
    let column = |value: fn(&(&'a Key, &'a str)) -> &'a str| Column::Text(sorted.iter().map(value).collect());
    [
        ("scope", column(|(key, _)| &key.scope)),
        ("key", column(|(key, _)| &key.key)),
        ("reply", column(|(_, reply)| reply)),
    ]
}

/// A table that a batch fills.
#[derive(Clone, Copy)]
pub(super) enum Table {
    Message,
    Content,
    Tag,
    Delivery,
    /// `tx` is that of the table `e`, which is joined.
    Item,
}

impl Table {
    /// Builds the insert of the columns `names` of `from`.
    pub fn insert(self, names: &[&str], from: &str) -> String {
        let names = names.join(", ");
        match self {
            Self::Message => format!("insert into message ({names}) select {names} from {from}"),
            Self::Content => format!("insert into message_content ({names}) select {names} from {from}"),
            Self::Tag => format!("insert into message_tag ({names}) select {names} from {from}"),
            Self::Item => format!("insert into poll_item ({names}, tx) select {names}, e.tx from {from} cross join e"),
            Self::Delivery => {
                format!("insert into delivery ({names}, trigger, attempts_made) select {names}, 0, 0 from {from}")
            }
        }
    }
}

/// Builds the claim of those keys of `from` that are absent or had expired at the parameter `now`. They expire at the
/// parameter `expires_at`. Claims none unless `condition` holds.
pub(super) fn claim_of_keys(from: &str, condition: &str, expires_at: &str, now: &str) -> String {
    format!(
        "insert into idempotency (scope, key, reply, expires_at) select scope, key, reply, {expires_at} from {from} \
         where {condition} order by scope, key \
         on conflict (scope, key) do update set reply = excluded.reply, expires_at = excluded.expires_at \
         where idempotency.expires_at <= {now}"
    )
}

fn text<'a, R>(rows: &'a [R], value: impl Fn(&'a R) -> &'a str) -> Column<'a> {
    Column::Text(rows.iter().map(value).collect())
}

fn maybe_text<'a, R>(rows: &'a [R], value: impl Fn(&'a R) -> Option<&'a str>) -> Column<'a> {
    Column::MaybeText(rows.iter().map(value).collect())
}

fn int<'a, R>(rows: &'a [R], value: impl Fn(&'a R) -> i64) -> Column<'a> {
    Column::Int(rows.iter().map(value).collect())
}

fn maybe_int<'a, R>(rows: &'a [R], value: impl Fn(&'a R) -> Option<i64>) -> Column<'a> {
    Column::MaybeInt(rows.iter().map(value).collect())
}
