//! `app console`: prints a link that signs in to the console once. It makes the link in the database, or asks a server
//! for it over its API.
//!
//! Must not show the link anywhere but on standard output.

use clap::Args;
use serde_json::json;

use super::link::LinkSettings;
use super::output::say;
use super::server::ServerSettings;
use crate::api::ConsoleLinkOut;
use crate::app::{self, DEFAULT_ORGANIZATION};
use crate::config::DatabaseSettings;
use crate::domain::audit::Origin;
use crate::domain::role::Role;
use crate::error::Result;
use crate::service::console_link::{self, Link, MINUTES, MOST_MINUTES};
use crate::service::organization;

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Arguments {
    /// What the link's user may do: admin, operator, viewer or sender
    #[arg(long, env = "POSTRIDER_CONSOLE_ROLE", value_name = "ROLE", default_value = "admin")]
    role: Role,

    /// Minutes that the link's user stays signed in
    #[arg(long, env = "POSTRIDER_CONSOLE_MINUTES", value_name = "MINUTES", default_value_t = MINUTES, value_parser = clap::value_parser!(u16).range(1..=i64::from(MOST_MINUTES)))]
    minutes: u16,

    /// The organization that the link's user acts for; not with --url [default: default]
    #[arg(long, env = "POSTRIDER_ORGANIZATION", value_name = "NAME")]
    organization: Option<String>,

    #[command(flatten)]
    link: LinkSettings,

    #[command(flatten)]
    server: ServerSettings,

    #[command(flatten)]
    database: DatabaseSettings,
}

const NOTES: &str = "\
The link works once, within 10 minutes. It leads to POSTRIDER_PUBLIC_URL or, without one, to the address of
POSTRIDER_LISTEN on this machine; with --url it is the server that makes it.";

pub async fn run(arguments: Arguments) -> Result<()> {
    if let Some(server) = arguments.server.server()? {
        let wanted = json!({"role": arguments.role, "minutes": arguments.minutes});
        let made: ConsoleLinkOut = server.post("/auth/console-link", &wanted).await?;
        return say(made.url);
    }
    let store = app::open_beside(&arguments.database).await?;
    let name = arguments.organization.as_deref().unwrap_or(DEFAULT_ORGANIZATION);
    let origin = Origin::cli("cli.console");
    let organization = organization::get_or_create(&store, &origin, name).await?;
    let link = Link {
        role: arguments.role,
        minutes: arguments.minutes,
    };
    let server = arguments.link.server();
    let url = console_link::create_url(&store, &origin, &organization.id, link, &server).await?;
    store.close().await;
    say(url)
}
