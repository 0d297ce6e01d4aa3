//! Pollers over REST: filters whose messages are kept for programs that ask for them. Reads go to the store, writes to the
//! service.
//!
//! `GET /app/{app_id}/poller/{poller_id}` is the poll itself, as the SDKs call it, so a single poller is read at
//! `…/settings`. Must not show secrets: secret.rs does. Must not read messages: page.rs does.

pub mod body;
pub mod consumer;
mod page;
pub mod secret;

use std::sync::Arc;

use poem::Request;
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::OpenApi;
use poem_openapi::param::{Path, Query};

use self::body::{PollerIn, PollerOut, PollerPatch};
pub(crate) use self::page::wait_of;
use self::page::{Asked, PollOut, Wait};
use super::rights::{AnyToken, Edit, Poll, View};
use super::wire::body::{Body, KeyedBody};
use super::wire::error::{ApiError, Conditional, Read, Write};
use super::wire::idempotency::IdempotencyKey;
use super::wire::paging::{Iterates, Limit, ListOut, ListQuery, Ordering, ascending};
use super::wire::response::{Answer, Created, CreatedOrReplaced, Empty, reply};
use super::wire::values::Instant;
use super::{ApiState, Tag};
use crate::domain::act::Act;
use crate::domain::cursor::Cursor;
use crate::domain::id::Prefix;
use crate::error::Result;
use crate::service;
use crate::store::entity::poller::Model;
use crate::store::idempotency::Reply;
use crate::store::poller;

/// Returns the reply to a creation, which is also stored for the idempotency key.
fn created(row: Model) -> Result<Reply> {
    reply(201, &PollerOut::from(row))
}

pub(crate) struct Pollers;

#[OpenApi(prefix_path = "/api/v1", tag = "Tag::Poller")]
impl Pollers {
    /// List pollers
    #[oai(path = "/app/:app_id/poller", method = "get", operation_id = "v1.poller.list")]
    async fn list(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        limit: Query<Option<Limit>>,
        iterator: Query<Option<String>>,
        order: Query<Option<Ordering>>,
    ) -> Result<Answer<ListOut<PollerOut>>, ApiError<Read>> {
        let upwards = ascending(order.0, Ordering::Descending);
        let request = ListQuery { limit, iterator }.request(&Iterates::Over(Prefix::Poller), upwards)?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let page = poller::list(&state.store, &app.id, &request).await?;
        let out = |row| Ok(PollerOut::from(row));
        Ok(ListOut::answer(page, &request, |row| &row.id, out)?)
    }

    /// Create a poller
    ///
    /// From then on messages that pass its filter are kept for it. An application has at most 20 pollers.
    #[oai(path = "/app/:app_id/poller", method = "post", operation_id = "v1.poller.create")]
    async fn create(
        &self,
        caller: AnyToken<Edit>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        #[oai(name = "idempotency-key")] key: IdempotencyKey,
        body: KeyedBody<PollerIn>,
    ) -> Result<Answer<PollerOut, Created>, ApiError<Conditional>> {
        let key = key.of(&caller, body.1);
        let field = body.0.filter_field();
        let content = body.0.read()?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let (origin, flags) = (caller.origin("v1.poller.create"), caller.flags());
        let made = service::poller::create(&state.store, &origin, &app, content, flags, key.as_ref(), created).await;
        Ok(made.map_err(|err| field.named_in(err))?.into())
    }

    /// Get a poller
    ///
    /// Not its messages: those are at the path without `/settings`.
    #[oai(
        path = "/app/:app_id/poller/:poller_id/settings",
        method = "get",
        operation_id = "v1.poller.get"
    )]
    async fn get(
        &self,
        caller: AnyToken<View>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        poller_id: Path<String>,
    ) -> Result<Answer<PollerOut>, ApiError<Read>> {
        let app = caller.application(&state.store, &app_id.0).await?;
        let found = poller::get(&state.store, &app.id, &poller_id.0).await?;
        Ok(Answer::ok(&found.into())?)
    }

    /// Read the messages of a poller
    ///
    /// Without an iterator it begins at the creation of the poller. A message is returned once no older transaction of the
    /// database is open, so that nothing comes before what was returned already.
    #[oai(
        path = "/app/:app_id/poller/:poller_id",
        method = "get",
        operation_id = "v1.message.poller.poll"
    )]
    #[allow(clippy::too_many_arguments)]
    async fn poll(
        &self,
        caller: AnyToken<Poll>,
        state: Data<&Arc<ApiState>>,
        request: &Request,
        app_id: Path<String>,
        poller_id: Path<String>,
        limit: Query<Option<Limit>>,
        /// The `iterator` of the page before, or of a seek.
        iterator: Query<Option<String>>,
        /// Only messages of this event type.
        event_type: Query<Option<String>>,
        /// Only messages on this channel.
        channel: Query<Option<String>>,
        /// Begins with the first message that is not before this instant. Ignored with an iterator.
        after: Query<Option<Instant>>,
        /// Seconds to wait for messages if there are none: 0 to 25. Default: 0.
        wait: Query<Option<Wait>>,
    ) -> Result<Answer<PollOut>, ApiError<Read>> {
        let asked = Asked::read(limit, iterator, wait)?;
        let filter = page::filter(event_type.0, channel.0)?;
        let since = after.0.map_or(Cursor::START, |after| Cursor::since(after.0));
        let (_, poller) = consumer::named(&state, &caller, &app_id.0, &poller_id.0).await?;
        let poll = page::Poll {
            state: &state,
            request,
            caller: &caller,
            act: Act::Poll,
            poller: poller.into(),
            from: asked.from.unwrap_or(since),
            filter,
            limit: asked.limit,
            wait: asked.wait,
        };
        Ok(Box::pin(poll.answer()).await?)
    }

    /// Replace or create a poller
    ///
    /// Its secret, its consumers and its messages are kept.
    #[oai(
        path = "/app/:app_id/poller/:poller_id",
        method = "put",
        operation_id = "v1.poller.update"
    )]
    async fn update(
        &self,
        caller: AnyToken<Edit>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        poller_id: Path<String>,
        body: Body<PollerIn>,
    ) -> Result<Answer<PollerOut, CreatedOrReplaced>, ApiError<Conditional>> {
        let field = body.0.filter_field();
        let content = body.0.read()?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let (origin, flags) = (caller.origin("v1.poller.update"), caller.flags());
        let done = service::poller::put(&state.store, &origin, &app, &poller_id.0, content, flags).await;
        let (row, new) = done.map_err(|err| field.named_in(err))?;
        let status = if new { StatusCode::CREATED } else { StatusCode::OK };
        Ok(Answer::new(status, &row.into())?)
    }

    /// Change a poller
    #[oai(
        path = "/app/:app_id/poller/:poller_id",
        method = "patch",
        operation_id = "v1.poller.patch"
    )]
    async fn patch(
        &self,
        caller: AnyToken<Edit>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        poller_id: Path<String>,
        body: Body<PollerPatch>,
    ) -> Result<Answer<PollerOut>, ApiError<Write>> {
        let field = body.0.filter_field();
        let change = body.0.read()?;
        let app = caller.application(&state.store, &app_id.0).await?;
        let (origin, flags) = (caller.origin("v1.poller.patch"), caller.flags());
        let done = service::poller::patch(&state.store, &origin, &app, &poller_id.0, change, flags).await;
        Ok(Answer::ok(&done.map_err(|err| field.named_in(err))?.into())?)
    }

    /// Delete a poller
    ///
    /// Its consumers and its tokens end with it. The messages of the application stay.
    #[oai(
        path = "/app/:app_id/poller/:poller_id",
        method = "delete",
        operation_id = "v1.poller.delete"
    )]
    async fn delete(
        &self,
        caller: AnyToken<Edit>,
        state: Data<&Arc<ApiState>>,
        app_id: Path<String>,
        poller_id: Path<String>,
    ) -> Result<Empty, ApiError<Write>> {
        let app = caller.application(&state.store, &app_id.0).await?;
        let origin = caller.origin("v1.poller.delete");
        service::poller::delete(&state.store, &origin, &app, &poller_id.0).await?;
        Ok(Empty)
    }
}
