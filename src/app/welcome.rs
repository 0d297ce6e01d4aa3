//! Greets the operator at a first start, once everything is ready.
//!
//! A token is printed only if it cannot end up in a log: see `greet`. Must not write a token to the log.

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::domain::audit::Origin;
use crate::domain::role::Role;
use crate::domain::secret::EndpointSecret;
use crate::domain::target::TargetPolicy;
use crate::error::Result;
use crate::service::console_link::{self, Link, MINUTES};
use crate::service::{self, token::Grant};
use crate::store::entity::organization;
use crate::store::{self, Backend, PageRequest, Store};

/// The origin of what a start writes.
pub const START: Origin<'static> = Origin::system("system.start");

/// Tells the operator how to begin, if the database is new and no token is configured.
///
/// On SQLite, if a person sees standard output, makes a token and a link to the console and prints them once, with the
/// commands that send a first webhook. Otherwise logs the command that makes a token: output that is not a terminal is kept, as in the log of a
/// container, and on Postgres several processes may start at once.
///
/// At every start at which it prints no greeting, logs the addresses of the console and of the API's documentation.
pub async fn greet(
    store: &Store,
    organization: &organization::Model,
    server: &str,
    has_admin_token: bool,
    targets: &TargetPolicy,
) -> Result<()> {
    let is_first = !has_admin_token && is_new(store, organization).await?;
    if is_first && store.backend() == Backend::Sqlite && is_seen_by_a_person() {
        let (token, _) = service::token::create(store, &START, &organization.id, Grant::default()).await?;
        let link = Link {
            role: Role::Admin,
            minutes: MINUTES,
        };
        let console = console_link::create_url(store, &START, &organization.id, link, server).await?;
        print(&first_webhook(server, &console, &token, targets));
        return Ok(());
    }
    if is_first {
        tracing::info!(
            "no token was made yet: app token create --organization {}",
            organization.name
        );
    }
    tracing::info!("the console: {server}/console; the API and its documentation: {server}/docs");
    Ok(())
}

/// Returns whether printed text reaches a screen and no log. The first process of a container may have a terminal, but
/// its output is logged too.
fn is_seen_by_a_person() -> bool {
    io::stdout().is_terminal() && std::process::id() != 1
}

/// Returns whether the database is unused: it has no token, no application, and no organization besides the default
/// one.
async fn is_new(store: &Store, organization: &organization::Model) -> Result<bool> {
    let first_only = PageRequest {
        limit: 1,
        after: None,
        backwards: false,
        ascending: true,
    };
    Ok(store::organization::list(store, "", 2).await?.len() <= 1
        && store::token::list(store, &organization.id, "", 1).await?.is_empty()
        && store::application::list(store, &organization.id, &first_only)
            .await?
            .rows
            .is_empty())
}

/// Returns the URL at which a server that listens at `address` is reached from the same machine.
pub fn url_of(address: SocketAddr) -> String {
    let mut address = address;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    format!("http://{address}")
}

/// Returns the greeting: the link to the console, the token, and three commands that create an application, an endpoint and a message.
fn first_webhook(server: &str, console: &str, token: &str, targets: &TargetPolicy) -> String {
    let note = if targets.allows(Ipv4Addr::LOCALHOST.into()) {
        ""
    } else {
        " Private addresses are refused\nunless you allow them: start Postrider again with \
         POSTRIDER_ALLOW_TARGETS=127.0.0.0/8 for that. The console then\nhas a receiver to try, too. The token stays valid."
    };
    let secret = EndpointSecret::generate().to_private();
    let curl =
        format!("curl -H 'authorization: Bearer {token}' -H 'content-type: application/json' {server}/api/v1/app");
    format!(
        r#"
Postrider has made a new database. This link opens the console; it works once, within 10 minutes, and `app console` makes
others.

  {console}

A token for programs, which is shown only once; `app token create` makes others. The API's documentation: {server}/docs

  {token}

A first webhook goes to a receiver on this machine: start one of examples/receivers with the secret that its endpoint will
have, and send from another terminal.{note}

  SECRET={secret} cargo run --manifest-path examples/receivers/rust/Cargo.toml

  {curl} -d '{{"name": "Shop", "uid": "shop"}}'
  {curl}/shop/endpoint -d '{{"url": "http://127.0.0.1:9000/", "secret": "{secret}"}}'
  {curl}/shop/msg -d '{{"eventType": "order.paid", "payload": {{"total": 1.10}}}}'
"#
    )
}

/// Prints the greeting. If the terminal is gone, logs that and lets the process serve.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    if let Err(err) = writeln!(out, "{text}").and_then(|()| out.flush()) {
        tracing::warn!(%err, "the token could not be printed; make another one: app token create");
    }
}
