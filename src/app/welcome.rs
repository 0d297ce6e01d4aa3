//! What a first start says to the person who started it. Called by app, once, when everything is ready.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::domain::target::TargetPolicy;
use crate::error::{Error, Result};
use crate::service;
use crate::store::entity::organization;

use crate::store::{self, Backend, PageRequest, Store};

/// On a new SQLite database without a configured token: makes a token and prints it, once, with the commands that send
/// a first webhook. On Postgres, where several processes start and logs are kept, says how a token is made.
pub async fn greet(
    store: &Store,
    organization: &organization::Model,
    server: &str,
    has_admin_token: bool,
    targets: &TargetPolicy,
) -> Result<()> {
    if has_admin_token || !is_new(store, organization).await? {
        tracing::info!("the API and its documentation: {server}/docs");
        return Ok(());
    }
    if store.backend() == Backend::Postgres {
        tracing::info!("no token was made yet: app token create --organization NAME");
        return Ok(());
    }
    let (token, _) = service::token::create(store, &organization.id, None, None).await?;
    print(&first_webhook(server, &token, targets))
}

/// Nobody has made a token or an application, or another organization than the one that is always there.
async fn is_new(store: &Store, organization: &organization::Model) -> Result<bool> {
    let one = PageRequest {
        limit: 1,
        after: None,
        backwards: false,
        ascending: true,
    };
    Ok(store::organization::list(store, "", 2).await?.len() <= 1
        && store::token::list(store, &organization.id, "", 1).await?.is_empty()
        && store::application::list(store, &organization.id, &one)
            .await?
            .rows
            .is_empty())
}

/// What reaches a server that listens there from the same machine.
pub fn url_of(address: SocketAddr) -> String {
    let mut address = address;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    format!("http://{address}")
}

fn first_webhook(server: &str, token: &str, targets: &TargetPolicy) -> String {
    let note = if targets.allows(Ipv4Addr::LOCALHOST.into()) {
        "Send a first webhook to a receiver on this machine (examples/receivers has two):"
    } else {
        "Send a first webhook to a receiver on this machine (examples/receivers has two). Private addresses are refused\n\
         unless you allow them: start again with POSTRIDER_ALLOW_TARGETS=127.0.0.0/8 for that. The token stays valid."
    };
    let curl =
        format!("curl -H 'authorization: Bearer {token}' -H 'content-type: application/json' {server}/api/v1/app");
    format!(
        r#"
Postrider has made a new database, and a token for it. The token is shown this once; `app token create` makes others.

  {token}

The API and its documentation: {server}/docs

{note}

  {curl} -d '{{"name": "Shop", "uid": "shop"}}'
  {curl}/shop/endpoint -d '{{"url": "http://127.0.0.1:9000/"}}'
  {curl}/shop/msg -d '{{"eventType": "order.paid", "payload": {{"total": 1.10}}}}'
"#
    )
}

fn print(text: &str) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|err| Error::internal("cannot write to standard output").because(err))
}
