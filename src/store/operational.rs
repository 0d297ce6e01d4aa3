//! Stores notices of operational events, and finds the operational endpoints that want them.
//!
//! A notice is an ordinary message. It belongs to the application that holds the organization's operational endpoints,
//! and is stored in the transaction of the change that it reports, so that neither exists without the other. Must not
//! decide which events are worth a notice: the domain does.

use std::collections::HashMap;
use std::time::Duration;

use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QuerySelect};

use super::application;
use super::database::rows::{Column, Rows, Write, execute_all};
use super::database::source::Source;
use super::database::tx::Tx;
use super::entity::application::{Entity, Model};
use super::entity::endpoint;
use super::entity::json_text::JsonText;
use crate::domain::filter::{self, EndpointFilter};
use crate::domain::id::Prefix;
use crate::domain::operational::Event;
use crate::error::Result;

/// How long the payload of a notice is kept.
const RETENTION: Duration = Duration::from_hours(90 * 24);

/// Returns the application that holds an organization's operational endpoints, and has the organization's id. `None`
/// means that the organization never had such an endpoint.
pub async fn find_application(source: &impl Source, org_id: &str) -> Result<Option<Model>> {
    Ok(Entity::find_by_id(org_id).one(source.source()).await?)
}

/// Inserts the application that holds an organization's operational endpoints.
///
/// # Errors
/// `Conflict` if there is one already.
pub async fn insert_application(tx: &Tx, org_id: &str) -> Result<Model> {
    let content = application::Content {
        name: "Operational webhooks".to_owned(),
        ..application::Content::default()
    };
    application::insert_as(tx, org_id.to_owned(), org_id, content).await
}

/// An operational endpoint that is neither deleted nor disabled.
struct Listener {
    id: String,
    /// The event types that it wants; `None` means all.
    event_types: Option<Vec<String>>,
}

/// Stores a notice of each event, with a delivery for each operational endpoint that wants it. An event that no
/// endpoint wants is not stored. Each event comes with the id of its organization.
pub async fn notify(tx: &Tx, events: &[(String, Event)]) -> Result<()> {
    let mut listeners: HashMap<&str, Vec<Listener>> = HashMap::new();
    for org_id in events.iter().map(|(org_id, _)| org_id.as_str()) {
        if !listeners.contains_key(org_id) {
            listeners.insert(org_id, list_listeners(tx, org_id).await?);
        }
    }
    let clock = tx.store().clock();
    let (mut messages, mut deliveries) = (Vec::new(), Vec::new());
    for (org_id, event) in events {
        let wants = |listener: &&Listener| {
            let filter = EndpointFilter {
                event_types: listener.event_types.as_deref(),
                channels: None,
            };
            filter::accepts(&filter, event.event_type(), &[])
        };
        let wanting: Vec<_> = listeners
            .get(org_id.as_str())
            .into_iter()
            .flatten()
            .filter(wants)
            .collect();
        if wanting.is_empty() {
            continue;
        }
        let id = clock.new_id_at(Prefix::Message, tx.now);
        for listener in wanting {
            deliveries.push((
                clock.new_id_at(Prefix::Delivery, tx.now),
                org_id.as_str(),
                id.clone(),
                listener.id.as_str(),
            ));
        }
        messages.push((id, org_id.as_str(), event.event_type(), event.body()));
    }
    if messages.is_empty() {
        return Ok(());
    }
    execute_all(tx, writes(tx, &messages, &deliveries)).await?;
    tx.wake_on_commit();
    Ok(())
}

/// Returns the operational endpoints of an organization that may be called.
async fn list_listeners(tx: &Tx, org_id: &str) -> Result<Vec<Listener>> {
    let rows = endpoint::Entity::find()
        .filter(endpoint::Column::AppId.eq(org_id))
        .filter(endpoint::Column::DeletedAt.is_null())
        .filter(endpoint::Column::Disabled.eq(false))
        .select_only()
        .columns([endpoint::Column::Id, endpoint::Column::EventTypes])
        .into_tuple::<(String, Option<JsonText<Vec<String>>>)>()
        .all(tx.conn())
        .await?;
    let listener = |(id, event_types): (_, Option<JsonText<_>>)| Listener {
        id,
        event_types: event_types.map(|list| list.0),
    };
    Ok(rows.into_iter().map(listener).collect())
}

/// A message's id, its organization, event type and body.
type Message<'a> = (String, &'a str, &'static str, String);
/// A delivery's id, its organization, message and endpoint.
type Delivery<'a> = (String, &'a str, String, &'a str);

/// Builds the inserts of messages, their payloads and their deliveries.
fn writes<'a>(tx: &Tx, messages: &'a [Message<'a>], deliveries: &'a [Delivery<'a>]) -> Vec<Write<'a>> {
    let text = |of: fn(&'a Message<'a>) -> &'a str| Column::Text(messages.iter().map(of).collect());
    let id = || text(|(id, ..)| id);
    let app_id = || text(|(_, org_id, ..)| org_id);
    let instant = |at: i64| Column::Int(vec![at; messages.len()]);
    let message = Rows::new([
        ("id", id()),
        ("app_id", app_id()),
        ("event_type", text(|(_, _, event_type, _)| event_type)),
        ("created_at", instant(tx.now.0)),
        ("expires_at", instant(tx.now.plus(RETENTION).0)),
    ]);
    let content = Rows::new([
        ("message_id", id()),
        ("app_id", app_id()),
        ("body", text(|(.., body)| body)),
        ("expires_at", instant(tx.now.plus(RETENTION).0)),
    ]);
    let text = |of: fn(&'a Delivery<'a>) -> &'a str| Column::Text(deliveries.iter().map(of).collect());
    let delivery = Rows::new([
        ("id", text(|(id, ..)| id)),
        ("app_id", text(|(_, org_id, ..)| org_id)),
        ("message_id", text(|(_, _, message_id, _)| message_id)),
        ("endpoint_id", text(|(.., endpoint_id)| endpoint_id)),
        ("due_at", Column::Int(vec![tx.now.0; deliveries.len()])),
    ]);
    let write = |sql, rows| Write { sql, rows };
    vec![
        write(
            "insert into message (app_id, id, event_type, created_at, expires_at) \
             select app_id, id, event_type, created_at, expires_at from {t}",
            message,
        ),
        write(
            "insert into message_content (app_id, message_id, body, expires_at) \
             select app_id, message_id, body, expires_at from {t}",
            content,
        ),
        write(
            "insert into delivery (id, app_id, message_id, endpoint_id, trigger, attempts_made, due_at) \
             select id, app_id, message_id, endpoint_id, 0, 0, due_at from {t}",
            delivery,
        ),
    ]
}
