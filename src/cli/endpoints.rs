//! `app endpoints`: lists the endpoints of all applications, or those that fail or are disabled. It asks the database, or
//! a server over its API.
//!
//! Must not hold all endpoints in memory: they are read and printed page by page.

use clap::Args;

use super::output::say;
use super::server::{Server, ServerSettings};
use crate::api::{ApplicationOut, EndpointOut};
use crate::app;
use crate::config::DatabaseSettings;
use crate::error::{Error, Result};
use crate::store::{self, PageRequest, Store, application, endpoint};

/// The rows that are read at once.
const PAGE: u64 = 250;

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Arguments {
    /// Only endpoints that fail or are disabled
    #[arg(long, env = "POSTRIDER_ENDPOINTS_FAILING")]
    failing: bool,

    /// Only this organization's; with --url they are the token's
    #[arg(long, env = "POSTRIDER_ORGANIZATION", value_name = "NAME")]
    organization: Option<String>,

    #[command(flatten)]
    server: ServerSettings,

    #[command(flatten)]
    database: DatabaseSettings,
}

const NOTES: &str = "\
A line for each endpoint: its state and since when, its application, its id, its URL. An endpoint fails from the fourth
failure of a message, or its last one, until it works again. Disabled are those that a person disabled (manual), that
answered 410 (gone), or that failed for too long (failing).";

pub async fn run(arguments: Arguments) -> Result<()> {
    match arguments.server.server()? {
        Some(server) => ask_server(&server, arguments.failing).await,
        None => {
            let store = app::open_beside(&arguments.database).await?;
            ask_database(&store, arguments.organization.as_deref(), arguments.failing).await?;
            store.close().await;
            Ok(())
        }
    }
}

async fn ask_server(server: &Server, failing: bool) -> Result<()> {
    let applications = async |applications: Vec<ApplicationOut>| {
        for app in applications {
            let list = format!("/app/{}/endpoint", app.id);
            let show = async |endpoints: Vec<EndpointOut>| print(&app, &endpoints, failing);
            server.walk(&list, show).await?;
        }
        Ok(())
    };
    server.walk("/app", applications).await
}

async fn ask_database(store: &Store, organization: Option<&str>, failing: bool) -> Result<()> {
    let mut organizations = match organization {
        Some(name) => {
            let found = store::organization::find_by_name(store, name).await?;
            vec![found.ok_or_else(|| Error::not_found(&format!("organization \"{name}\"")))?]
        }
        None => store::organization::list(store, "", PAGE).await?,
    };
    while let Some(last) = organizations.last().map(|organization| organization.id.clone()) {
        for organization in &organizations {
            print_organization(store, &organization.id, failing).await?;
        }
        organizations = match organization {
            Some(_) => Vec::new(),
            None => store::organization::list(store, &last, PAGE).await?,
        };
    }
    Ok(())
}

async fn print_organization(store: &Store, org_id: &str, failing: bool) -> Result<()> {
    let mut request = oldest_first();
    loop {
        let page = application::list(store, org_id, &request).await?;
        request.after = page.rows.last().map(|app| app.id.clone());
        for app in page.rows {
            print_application(store, &app.into(), failing).await?;
        }
        if page.done {
            return Ok(());
        }
    }
}

async fn print_application(store: &Store, app: &ApplicationOut, failing: bool) -> Result<()> {
    let mut request = oldest_first();
    loop {
        let page = endpoint::list(store, &app.id, &request).await?;
        request.after = page.rows.last().map(|endpoint| endpoint.id.clone());
        let endpoints: Vec<EndpointOut> = page.rows.into_iter().map(EndpointOut::from).collect();
        print(app, &endpoints, failing)?;
        if page.done {
            return Ok(());
        }
    }
}

fn oldest_first() -> PageRequest {
    PageRequest {
        limit: PAGE,
        after: None,
        backwards: false,
        ascending: true,
    }
}

/// Prints a line for each endpoint; with `failing` only for those that fail or are disabled.
fn print(app: &ApplicationOut, endpoints: &[EndpointOut], failing: bool) -> Result<()> {
    let application = named(&app.id, app.uid.as_deref());
    for endpoint in endpoints {
        let Some(state) = endpoint.trouble().or_else(|| (!failing).then(|| "works".to_owned())) else {
            continue;
        };
        let id = named(&endpoint.id, endpoint.uid.as_deref());
        say(format!("{state}  {application}  {id}  {}", endpoint.url))?;
    }
    Ok(())
}

fn named(id: &str, uid: Option<&str>) -> String {
    uid.map_or_else(|| id.to_owned(), |uid| format!("{id} ({uid})"))
}
