//! `app why`: says in words why a message was or was not sent to each endpoint of its application. It asks the database,
//! or a server over its API.
//!
//! Must not judge: both give the same explanation, which is only printed here.

use clap::Args;

use super::application::{find, name};
use super::output::say;
use super::server::{Server, ServerSettings};
use crate::api::explain::{EndpointVerdictOut, ExplanationOut, explain};
use crate::api::explain_poller::PollerVerdictOut;
use crate::app;
use crate::config::DatabaseSettings;
use crate::domain::verdict::Verdict;
use crate::error::Result;
use crate::store::entity::application::Model as Application;
use crate::store::{PageRequest, Store};

/// The endpoints that are explained at once.
const PAGE: u64 = 250;

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Arguments {
    /// The application's id or uid
    #[arg(value_name = "APP", value_parser = name)]
    app: String,

    /// The message's id or event id
    #[arg(value_name = "EVENT", value_parser = name)]
    event: String,

    /// The organization of the application, if several have one of this uid; not with --url
    #[arg(long, env = "POSTRIDER_ORGANIZATION", value_name = "NAME")]
    organization: Option<String>,

    #[command(flatten)]
    server: ServerSettings,

    #[command(flatten)]
    database: DatabaseSettings,
}

const NOTES: &str = "\
Every endpoint of the application with what became of the message there: delivered, waiting, sending, failed, or not sent
and why; and every poller, with the consumers that have not confirmed the message. Settings are judged as they are today;
if an endpoint was changed since, that is said.";

pub async fn run(arguments: Arguments) -> Result<()> {
    match arguments.server.server()? {
        Some(server) => {
            let each = |page: ExplanationOut, goes_on| print(&page, goes_on);
            ask_server(&server, &arguments.app, &arguments.event, each).await
        }
        None => {
            let store = app::open_beside(&arguments.database).await?;
            let app = find(&store, arguments.organization.as_deref(), &arguments.app).await?;
            ask_database(&store, &app, &arguments.event).await?;
            store.close().await;
            Ok(())
        }
    }
}

/// Calls `each` with every page of a server's explanation of a message, and with whether the page goes on with an earlier
/// one.
///
/// # Errors
/// As [`Server::get`]; the error that `each` returns.
pub(super) async fn ask_server(
    server: &Server,
    app: &str,
    event: &str,
    mut each: impl FnMut(ExplanationOut, bool) -> Result<()>,
) -> Result<()> {
    let path = format!("/app/{app}/msg/{event}/explain?limit={PAGE}");
    let mut query = String::new();
    loop {
        let page: ExplanationOut = server.get(&format!("{path}{query}")).await?;
        let next = page.iterator.clone().filter(|_| !page.done);
        each(page, !query.is_empty())?;
        match next {
            Some(iterator) => query = format!("&iterator={iterator}"),
            None => return Ok(()),
        }
    }
}

async fn ask_database(store: &Store, app: &Application, event: &str) -> Result<()> {
    let mut request = PageRequest {
        limit: PAGE,
        after: None,
        backwards: false,
        ascending: false,
    };
    loop {
        let page = explain(store, app, event, &request).await?;
        print(&page, request.after.is_some())?;
        if page.done || page.iterator.is_none() {
            return Ok(());
        }
        request.after = page.iterator;
    }
}

/// Prints an explanation; only its endpoints if it goes on with an earlier one. Pollers stand on each page, and are printed
/// with the first.
pub(super) fn print(page: &ExplanationOut, goes_on: bool) -> Result<()> {
    if !goes_on {
        let event = page.event_id.as_ref().map_or_else(String::new, |id| format!("{id}, "));
        let (id, event_type, at) = (&page.msg_id, &page.event_type, page.created_at.0);
        say(format!("{event}{id}, of type {event_type}, accepted at {at}"))?;
    }
    say(&page.text)?;
    if !goes_on {
        page.pollers.iter().try_for_each(print_poller)?;
    }
    page.data.iter().try_for_each(print_endpoint)
}

fn print_poller(row: &PollerVerdictOut) -> Result<()> {
    let uid = row
        .poller_uid
        .as_ref()
        .map_or_else(String::new, |uid| format!("{uid}, "));
    say(format!("\n{uid}{}, a poller", row.poller_id))?;
    say(format!("  {}", row.text))?;
    for consumer in row.consumers.iter().filter(|consumer| !consumer.confirmed) {
        say(format!("  not confirmed yet: {}", consumer.name))?;
    }
    Ok(())
}

fn print_endpoint(row: &EndpointVerdictOut) -> Result<()> {
    let uid = row
        .endpoint_uid
        .as_ref()
        .map_or_else(String::new, |uid| format!("{uid}, "));
    say(format!("\n{uid}{}, {}", row.endpoint_id, row.url))?;
    let verdict = match row.verdict {
        Verdict::Delivered => "delivered",
        Verdict::Waiting => "waiting",
        Verdict::Sending => "sending",
        Verdict::Failed => "failed",
        Verdict::NotSent => "not sent",
    };
    say(format!("  {verdict}: {}", row.text))
}
