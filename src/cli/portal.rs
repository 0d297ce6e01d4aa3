//! `app portal`: prints a link with which the people of an application use the portal. It makes the token of the link in
//! the database, or asks a server for it over its API.
//!
//! Must not show the link anywhere but on standard output.

use clap::Args;
use serde_json::json;

use super::application::{find, name};
use super::link::LinkSettings;
use super::output::say;
use super::server::ServerSettings;
use crate::api::AppPortalAccessOut;
use crate::app;
use crate::config::DatabaseSettings;
use crate::domain::audit::Origin;
use crate::domain::capability::Capability;
use crate::error::Result;
use crate::service::portal::{self, Access, LONGEST};
use crate::store::idempotency::Reply;

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Arguments {
    /// The application's id or uid
    #[arg(value_name = "APP", value_parser = name)]
    app: String,

    /// Let the link's users read and change nothing
    #[arg(long, env = "POSTRIDER_PORTAL_READ_ONLY")]
    read_only: bool,

    /// The organization of the application, if several have one of this uid; not with --url
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
The link works for seven days, for all who have it. It leads to POSTRIDER_PUBLIC_URL or, without one, to the address of
POSTRIDER_LISTEN on this machine; with --url it is the server that makes it.";

pub async fn run(arguments: Arguments) -> Result<()> {
    if let Some(server) = arguments.server.server()? {
        let path = format!("/auth/app-portal-access/{}", arguments.app);
        let made: AppPortalAccessOut = server.post(&path, &json!({"readOnly": arguments.read_only})).await?;
        return say(made.url);
    }
    let store = app::open_beside(&arguments.database).await?;
    let app = find(&store, arguments.organization.as_deref(), &arguments.app).await?;
    let access = Access {
        lasts: LONGEST,
        session_id: None,
        feature_flags: Vec::new(),
        capabilities: arguments.read_only.then(|| vec![Capability::ViewBase]),
        application: None,
    };
    let server = arguments.link.server();
    let render = |token: &str| {
        let body = portal::url(&server, token);
        Ok(Reply { status: 200, body })
    };
    let made = portal::open(
        &store,
        &Origin::cli("cli.portal"),
        &app.org_id,
        &app.id,
        access,
        None,
        render,
    )
    .await?;
    store.close().await;
    say(made.body)
}
