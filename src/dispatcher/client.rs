//! The HTTP client of deliveries: no redirects, no proxy, no decompression, and names that resolve to addresses which
//! may not be called do not resolve. Literal addresses never reach a resolver: the sender checks them.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower_service::Service;

use crate::domain::target::TargetPolicy;
use crate::error::{Error, Result};

/// Common servers close an idle connection after five seconds; ours goes before theirs does, so that no attempt is
/// lost to a connection that was closing.
const IDLE: Duration = Duration::from_secs(4);
/// Idle connections kept for one host.
const IDLE_PER_HOST: usize = 64;

pub type Client = hyper_util::client::legacy::Client<HttpsConnector<HttpConnector<PublicNames>>, Full<Bytes>>;

pub fn new(targets: Arc<TargetPolicy>) -> Result<Client> {
    let mut http = HttpConnector::new_with_resolver(PublicNames { targets });
    http.enforce_http(false);
    http.set_nodelay(true);
    let https = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
        .map_err(|err| Error::config("no root certificates were found for https targets").because(err))?
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .pool_timer(TokioTimer::new())
        .build(https);
    Ok(client)
}

/// The system's resolver, less the addresses that may not be called. What it answers is what is dialled, so a name that
/// changes its address between check and use gains nothing.
#[derive(Clone)]
pub struct PublicNames {
    targets: Arc<TargetPolicy>,
}

impl Service<Name> for PublicNames {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let targets = self.targets.clone();
        Box::pin(async move {
            let mut refused = None;
            let mut allowed = Vec::new();
            for address in tokio::net::lookup_host((name.as_str(), 0)).await? {
                match targets.check_address(address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(reason) => refused = Some(reason),
                }
            }
            match refused {
                Some(reason) if allowed.is_empty() => Err(io::Error::new(io::ErrorKind::PermissionDenied, reason)),
                _ => Ok(allowed.into_iter()),
            }
        })
    }
}
