//! `app token`: makes, lists and revokes API tokens. Called by cli.

use std::collections::HashMap;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::say;
use crate::app;
use crate::config::DatabaseSettings;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Result};
use crate::service;
use crate::store::entity::api_token;
use crate::store::{self, Store};

const DAY: Duration = Duration::from_hours(24);

#[derive(Subcommand)]
pub enum Command {
    /// Make a token and print it, alone, on standard output: it is shown this once
    Create(Create),
    /// List the tokens that were made, without the tokens themselves
    List(List),
    /// End a token's life: within 5 seconds no process takes it any more
    Revoke(Revoke),
}

#[derive(Args)]
pub struct Create {
    /// The organization that the token acts for; made if it is new
    #[arg(long, value_name = "NAME", value_parser = organization_name)]
    organization: String,

    /// Limit the token to one application, by its id or uid [default: everything of the organization]
    #[arg(long, value_name = "APPLICATION")]
    application: Option<String>,

    /// Days until the token ends [default: never]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    expires_in: Option<u32>,

    #[command(flatten)]
    database: DatabaseSettings,
}

#[derive(Args)]
pub struct List {
    /// Only this organization's tokens
    #[arg(long, value_name = "NAME")]
    organization: Option<String>,

    #[command(flatten)]
    database: DatabaseSettings,
}

#[derive(Args)]
pub struct Revoke {
    /// The token's id, as `app token list` shows it
    #[arg(value_name = "ID")]
    id: String,

    #[command(flatten)]
    database: DatabaseSettings,
}

pub async fn run(command: Command) -> Result<()> {
    match command {
        Command::Create(arguments) => create(arguments).await,
        Command::List(arguments) => list(arguments).await,
        Command::Revoke(arguments) => revoke(arguments).await,
    }
}

async fn create(arguments: Create) -> Result<()> {
    let store = app::open_beside(&arguments.database).await?;
    let organization = service::organization::get_or_create(&store, &arguments.organization).await?;
    let expires_at = arguments.expires_in.map(|days| store.clock().now().plus(DAY * days));
    let application = arguments.application.as_deref();
    let (token, _) = service::token::create(&store, &organization.id, application, expires_at).await?;
    store.close().await;
    say(token)
}

async fn list(arguments: List) -> Result<()> {
    let store = app::open_beside(&arguments.database).await?;
    let mut organizations = store::organization::list(&store).await?;
    if let Some(name) = &arguments.organization {
        organizations.retain(|organization| organization.name == *name);
        if organizations.is_empty() {
            return Err(Error::not_found(&format!("organization \"{name}\"")));
        }
    }
    let now = store.clock().now();
    let names: HashMap<String, String> = organizations
        .iter()
        .map(|org| (org.id.clone(), org.name.clone()))
        .collect();
    let mut rows = vec![["id", "organization", "application", "made", "ends", "state"].map(str::to_owned)];
    for organization in &organizations {
        for token in store::token::list(&store, &organization.id).await? {
            rows.push(describe(token, &names, now));
        }
    }
    store.close().await;
    print_columns(&rows)
}

async fn revoke(arguments: Revoke) -> Result<()> {
    let store = app::open_beside(&arguments.database).await?;
    service::token::revoke(&store, &arguments.id).await?;
    close_and_say(&store, "revoked").await
}

async fn close_and_say(store: &Store, text: &str) -> Result<()> {
    store.close().await;
    say(text)
}

fn describe(token: api_token::Model, names: &HashMap<String, String>, now: Timestamp) -> [String; 6] {
    let state = match (token.revoked_at, token.expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(end)) if end <= now => "expired",
        (None, _) => "valid",
    };
    let organization = names.get(&token.org_id).cloned().unwrap_or_default();
    let ends = token
        .expires_at
        .map_or_else(|| "never".to_owned(), Timestamp::to_rfc3339);
    let application = token.app_id.unwrap_or_else(|| "-".to_owned());
    [
        token.id,
        organization,
        application,
        token.created_at.to_rfc3339(),
        ends,
        state.to_owned(),
    ]
}

fn print_columns<const N: usize>(rows: &[[String; N]]) -> Result<()> {
    let mut widths = [0; N];
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in rows {
        let cells: Vec<String> = row
            .iter()
            .zip(widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        say(cells.join("  ").trim_end())?;
    }
    Ok(())
}

fn organization_name(text: &str) -> Result<String, String> {
    let count = text.chars().count();
    if text.trim().is_empty() || count > 256 || text.chars().any(char::is_control) {
        return Err("must be 1 to 256 characters, and not control characters".to_owned());
    }
    Ok(text.to_owned())
}
