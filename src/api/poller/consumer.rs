//! The consumers of pollers over REST, as the SDKs call them: reading as a consumer, whose place the server keeps, and
//! moving one.
//!
//! Must not read or sign messages: page.rs does.

use std::sync::Arc;

use poem::Request;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::{Object, OpenApi};
use serde::{Deserialize, Serialize};

use super::page::{Asked, Poll, PollOut, Wait, no_epoch, reader};
use crate::api::caller::Caller;
use crate::api::rights::{AnyToken, MoveConsumer, View};
use crate::api::wire::body::KeyedBody;
use crate::api::wire::error::{ApiError, Conditional, OfConsumers, Read, Write};
use crate::api::wire::idempotency::IdempotencyKey;
use crate::api::wire::paging::{Iterates, Limit, ListOut, ListQuery, Ordering, ascending};
use crate::api::wire::response::{Answer, Empty, reply};
use crate::api::wire::values::Instant;
use crate::api::{ApiState, Tag};
use crate::domain::act::Act;
use crate::domain::cursor::Cursor;
use crate::domain::identifier::check_identifier;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::service::poller::register_epoch;
use crate::service::poller_consumer::{self, Move};
use crate::store::entity::application::Model as Application;
use crate::store::entity::poller::Model as Poller;
use crate::store::entity::poller_consumer::Model;
use crate::store::idempotency::Reply;
use crate::store::poll::{Backlog, Filter, Sought, list_backlogs, seek};
use crate::store::poller;
use crate::store::poller_consumer as consumers;

/// Where a consumer is to go on.
#[derive(Debug, Deserialize, Object)]
pub struct PollerSeekIn {
    /// The instant of the first message to read. Messages from before it may come again, but none from after it is left
    /// out.
    after: Instant,
}

/// Where a consumer goes on.
#[derive(Debug, Deserialize, Object, Serialize)]
pub struct PollerSeekOut {
    /// The iterator of the place.
    iterator: String,
}

/// A consumer of a poller: a reader whose place the server keeps.
#[derive(Debug, Deserialize, Object, Serialize)]
#[serde(rename_all = "camelCase")]
#[oai(rename_all = "camelCase")]
pub struct PollerConsumerOut {
    name: String,
    /// The confirmed place.
    iterator: String,
    created_at: Instant,
    /// When it was last used, to the hour. A consumer that is not used for 30 days goes.
    last_used_at: Instant,
    /// How many messages it has not confirmed yet, 1000 at most.
    waiting: i64,
    /// The instant of the first of these; null: there are none.
    #[oai(nullable)]
    waiting_since: Option<Instant>,
}

impl PollerConsumerOut {
    fn new(row: Model, backlog: Backlog) -> Self {
        Self {
            name: row.name,
            iterator: row.place,
            created_at: Instant(row.created_at),
            last_used_at: Instant(row.used_at),
            waiting: backlog.count,
            waiting_since: backlog.since.map(Instant),
        }
    }
}

/// Returns the reply to a seek, which is also stored for the idempotency key.
fn sought(place: &Cursor) -> Result<Reply> {
    let iterator = place.to_text();
    reply(200, &PollerSeekOut { iterator })
}

/// Returns the poller that a poll names, with its application.
///
/// # Errors
/// `NotFound`, also for a token of another poller.
pub(super) async fn named(
    state: &ApiState,
    caller: &Caller,
    app_id: &str,
    poller_id: &str,
) -> Result<(Application, Poller)> {
    let app = caller.application(&state.store, app_id).await?;
    let found = poller::get(&state.store, &app.id, poller_id).await?;
    caller.check_poller(&found.id)?;
    Ok((app, found))
}

/// Checks the name of a consumer, as it stands in the path.
fn check_name(name: &str) -> Result<()> {
    check_identifier(name).map_err(|rule| Error::new(Kind::Invalid, rule).at(["path", "consumer_id"]))
}

/// Finds where the messages begin that are not before an instant.
async fn find(state: &ApiState, poller: &Poller, at: Timestamp) -> Result<Cursor> {
    let found = match seek(&state.store, reader(poller), at).await? {
        Some(found) => found,
        None => {
            register_epoch(&state.store).await?;
            let found = seek(&state.store, reader(poller), at).await?;
            found.ok_or_else(no_epoch)?
        }
    };
    Ok(match found {
        Sought::Place(place) => Cursor::At(place),
        Sought::Nothing => Cursor::since(at),
    })
}

pub(crate) struct PollerConsumers;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Poller")]
impl PollerConsumers {
    /// Read the messages of a poller as a consumer
    ///
    /// The server keeps the consumer's place. A poll with the iterator of the page before confirms that page; without
    /// one that page comes again. A consumer is made by its first poll, at the creation of the poller; a poller has at
    /// most 100.
    #[oai(
        path = "/app/:app_id/poller/:poller_id/consumer/:consumer_id",
        method = "get",
        operation_id = "v1.message.poller.consumer-poll"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn consumer_poll(
        &self,
        caller: AnyToken<MoveConsumer>,
        state: Data<&Arc<ApiState>>,
        request: &Request,
        app_id: Path<String>,
        poller_id: Path<String>,
        consumer_id: Path<String>,
        limit: Query<Option<Limit>>,
        /// The `iterator` of the page before, or of a seek: everything before it is confirmed.
        iterator: Query<Option<String>>,
        /// Seconds to wait for messages if there are none: 0 to 25. Default: 0.
        wait: Query<Option<Wait>>,
    ) -> Result<Answer<PollOut>, ApiError<OfConsumers>> {
        let asked = Asked::read(limit, iterator, wait)?;
        check_name(&consumer_id.0)?;
        let (_, poller) = named(&state, &caller, &app_id.0, &poller_id.0).await?;
        let from = poller_consumer::confirm(&state.store, &poller, &consumer_id.0, asked.from).await?;
        let poll = Poll {
            state: &state,
            request,
            caller: &caller,
            act: Act::MoveConsumer,
            poller: poller.into(),
            from,
            filter: Filter::default(),
            limit: asked.limit,
            wait: asked.wait,
        };
        Ok(Box::pin(poll.answer()).await?)
    }

    /// Move a consumer of a poller
    ///
    /// To the first message that is not before an instant.
    #[oai(
        path = "/app/:app_id/poller/:poller_id/consumer/:consumer_id/seek",
        method = "post",
        operation_id = "v1.message.poller.consumer-seek"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn consumer_seek(
        &self,
        caller: AnyToken<MoveConsumer>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        poller_id: Path<String>,
        consumer_id: Path<String>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: KeyedBody<PollerSeekIn>,
    ) -> Result<Answer<PollerSeekOut>, ApiError<Conditional>> {
        let key = key.of(&caller, body.1);
        check_name(&consumer_id.0)?;
        let at = body.0.after.0;
        let (app, poller) = named(&state, &caller, &app_id.0, &poller_id.0).await?;
        let place = find(&state, &poller, at).await?;
        let origin = caller.origin("v1.message.poller.consumer-seek");
        let target = Move {
            poller: &poller,
            name: &consumer_id.0,
            place: &place,
        };
        let moved = poller_consumer::seek(&state.store, &origin, &app, target, key.as_ref(), sought).await?;
        Ok(moved.into())
    }

    /// Delete a consumer of a poller
    ///
    /// Its place is lost: if a program still polls as it, that begins again at the creation of the poller.
    #[oai(
        path = "/app/:app_id/poller/:poller_id/consumer/:consumer_id",
        method = "delete",
        operation_id = "v1.poller.consumer.delete"
    )]
    async fn delete_consumer(
        &self,
        caller: AnyToken<MoveConsumer>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        poller_id: Path<String>,
        consumer_id: Path<String>,
    ) -> Result<Empty, ApiError<Write>> {
        check_name(&consumer_id.0)?;
        let (app, poller) = named(&state, &caller, &app_id.0, &poller_id.0).await?;
        let origin = caller.origin("v1.poller.consumer.delete");
        poller_consumer::delete(&state.store, &origin, &app, &poller, &consumer_id.0).await?;
        Ok(Empty)
    }

    /// List the consumers of a poller
    ///
    /// With their places, and how many messages they have not confirmed.
    #[oai(
        path = "/app/:app_id/poller/:poller_id/consumer",
        method = "get",
        operation_id = "v1.poller.consumer.list"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn consumers(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        poller_id: Path<String>,
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
        order: Query<Option<Ordering>>,
    ) -> Result<Answer<ListOut<PollerConsumerOut>>, ApiError<Read>> {
        let upwards = ascending(order.0, Ordering::Ascending);
        let request = ListQuery { limit, iterator }.request(&Iterates::Names, upwards)?;
        let (_, poller) = named(&state, &caller, &app_id.0, &poller_id.0).await?;
        let page = consumers::list(&state.store, &poller.id, &request).await?;
        let places: Vec<_> = page
            .rows
            .iter()
            .map(|row| Cursor::parse(&row.place).unwrap_or(Cursor::START))
            .collect();
        let mut backlogs = list_backlogs(&state.store, poller.number, &places).await?.into_iter();
        let out = |row: Model| Ok(PollerConsumerOut::new(row, backlogs.next().unwrap_or_default()));
        Ok(ListOut::answer(page, &request, |row| &row.name, out)?)
    }
}
