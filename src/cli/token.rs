//! `app token`: makes, lists and revokes API tokens, directly in the database.
//!
//! A token is printed once, when it is made; the database holds only its hash. Must not hold all tokens in memory: a
//! list is read and printed page by page.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::output::say;
use crate::app;
use crate::config::DatabaseSettings;
use crate::domain::audit::Origin;
use crate::domain::role::Role;
use crate::domain::timestamp::Timestamp;
use crate::domain::token::check_name;
use crate::error::{Error, Result};
use crate::service::{self, token::Grant};
use crate::store::entity::{api_token, organization};
use crate::store::{self, Store};

const DAY: Duration = Duration::from_hours(24);
/// The number of rows that are read together, and printed together with aligned columns.
const PAGE: u64 = 1_000;
const COLUMNS: usize = 9;
const HEADING: [&str; COLUMNS] = [
    "id",
    "organization",
    "application",
    "name",
    "role",
    "made",
    "ends",
    "used",
    "state",
];

#[derive(Subcommand)]
pub enum Command {
    /// Make a token and print it, alone, on standard output: it is shown only once
    Create(Create),
    /// List the tokens by their ids and names, without the tokens themselves
    List(List),
    /// Revoke a token: within 5 seconds no process accepts it any more
    Revoke(Revoke),
}

#[derive(Args)]
pub struct Create {
    /// The organization that the token acts for; it is made if it does not exist
    #[arg(long, env = "POSTRIDER_TOKEN_ORGANIZATION", value_name = "NAME", value_parser = organization_name)]
    organization: String,

    /// Limit the token to one application, by its id or uid [default: everything of the organization]
    #[arg(
        long,
        env = "POSTRIDER_TOKEN_APPLICATION",
        value_name = "APPLICATION",
        conflicts_with = "role"
    )]
    application: Option<String>,

    /// What the token may do: admin, operator, viewer or sender [default: admin]
    #[arg(long, env = "POSTRIDER_TOKEN_ROLE", value_name = "ROLE")]
    role: Option<Role>,

    /// A name by which people know the token
    #[arg(long, env = "POSTRIDER_TOKEN_NAME", value_name = "NAME", value_parser = token_name)]
    name: Option<String>,

    /// When the token ends, such as 2027-01-31T00:00:00Z [default: never]
    #[arg(long, env = "POSTRIDER_TOKEN_EXPIRES", value_name = "INSTANT", value_parser = Timestamp::parse_rfc3339, conflicts_with = "expires_in")]
    expires: Option<Timestamp>,

    /// Days until the token ends [default: never]
    #[arg(long, env = "POSTRIDER_TOKEN_EXPIRES_IN", value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    expires_in: Option<u32>,

    #[command(flatten)]
    database: DatabaseSettings,
}

#[derive(Args)]
pub struct List {
    /// Only this organization's tokens
    #[arg(long, env = "POSTRIDER_TOKEN_ORGANIZATION", value_name = "NAME")]
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
    let now = store.clock().now();
    if arguments.expires.is_some_and(|end| end <= now) {
        return Err(Error::config("--expires must be in the future"));
    }
    let origin = Origin::cli("cli.token.create");
    let organization = service::organization::get_or_create(&store, &origin, &arguments.organization).await?;
    let grant = Grant {
        name: arguments.name.as_deref(),
        role: arguments.role.unwrap_or_default(),
        application: arguments.application.as_deref(),
        expires_at: arguments
            .expires
            .or(arguments.expires_in.map(|days| now.plus(DAY * days))),
        ..Grant::default()
    };
    let (token, _) = service::token::create(&store, &origin, &organization.id, grant).await?;
    store.close().await;
    say(token)
}

async fn list(arguments: List) -> Result<()> {
    let store = app::open_beside(&arguments.database).await?;
    let now = store.clock().now();
    let mut rows = vec![HEADING.map(str::to_owned)];
    let mut organizations = match &arguments.organization {
        Some(name) => match store::organization::find_by_name(&store, name).await? {
            Some(found) => vec![found],
            None => return Err(Error::not_found(&format!("organization \"{name}\""))),
        },
        None => store::organization::list(&store, "", PAGE).await?,
    };
    while let Some(last) = organizations.last().map(|organization| organization.id.clone()) {
        for organization in &organizations {
            print_tokens(&store, organization, now, &mut rows).await?;
        }
        organizations = match arguments.organization {
            Some(_) => Vec::new(),
            None => store::organization::list(&store, &last, PAGE).await?,
        };
    }
    store.close().await;
    print_columns(&rows)
}

/// Adds an organization's tokens to `rows`, and prints and clears `rows` whenever they fill a page.
async fn print_tokens(
    store: &Store,
    organization: &organization::Model,
    now: Timestamp,
    rows: &mut Vec<[String; COLUMNS]>,
) -> Result<()> {
    let mut after = String::new();
    loop {
        let tokens = store::token::list(store, &organization.id, &after, PAGE).await?;
        let Some(last) = tokens.last() else { return Ok(()) };
        after.clone_from(&last.id);
        rows.extend(tokens.into_iter().map(|token| describe(token, &organization.name, now)));
        if rows.len() >= PAGE as usize {
            print_columns(rows)?;
            rows.clear();
        }
    }
}

async fn revoke(arguments: Revoke) -> Result<()> {
    let store = app::open_beside(&arguments.database).await?;
    service::token::revoke(&store, &Origin::cli("cli.token.revoke"), &arguments.id).await?;
    close_and_say(&store, "revoked").await
}

async fn close_and_say(store: &Store, text: &str) -> Result<()> {
    store.close().await;
    say(text)
}

/// Returns the cells of a token's row.
fn describe(token: api_token::Model, organization: &str, now: Timestamp) -> [String; COLUMNS] {
    let state = match (token.revoked_at, token.expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(end)) if end <= now => "expired",
        (None, _) => "valid",
    };
    let ends = token
        .expires_at
        .map_or_else(|| "never".to_owned(), Timestamp::to_rfc3339);
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let role = token.app_id.is_none().then(|| token.role.name().to_owned());
    [
        token.id,
        organization.to_owned(),
        or_dash(token.app_id),
        or_dash(token.name),
        or_dash(role),
        token.created_at.to_rfc3339(),
        ends,
        or_dash(token.last_used_at.map(Timestamp::to_rfc3339)),
        state.to_owned(),
    ]
}

/// Prints rows with their columns aligned.
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

/// Parses the name of a token.
fn token_name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned())
}

/// Parses an organization's name: 1 to 256 characters, no control characters, not only white space.
fn organization_name(text: &str) -> Result<String, String> {
    let count = text.chars().count();
    if text.trim().is_empty() || count > 256 || text.chars().any(char::is_control) {
        return Err("must be 1 to 256 characters, and not control characters".to_owned());
    }
    Ok(text.to_owned())
}
