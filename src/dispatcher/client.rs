//! The HTTP client of deliveries: no redirects, no proxy, no decompression, and names that resolve to addresses which
//! may not be called do not resolve. Literal addresses never reach a resolver: the sender checks them.

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::Shared;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::dns::Name;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower_service::Service;

use super::connection::Connector;
use crate::domain::target::TargetPolicy;
use crate::error::{Error, Result};

/// Common servers close an idle connection after five seconds; ours goes before theirs does, so that no attempt is
/// lost to a connection that was closing.
const IDLE: Duration = Duration::from_secs(4);
/// Why a name is not called.
const NOT_PUBLIC: &str =
    "the name leads to an address that is not public and must not be called; POSTRIDER_ALLOW_TARGETS can allow it";
/// Idle connections kept for one host.
const IDLE_PER_HOST: usize = 64;

type Connect = Connector<HttpsConnector<HttpConnector<PublicNames>>>;
pub type Client = hyper_util::client::legacy::Client<Connect, Full<Bytes>>;

/// Within `timeout` a connect ends, and what is written has been read, or the connection is closed.
pub fn new(targets: Arc<TargetPolicy>, timeout: Duration) -> Result<Client> {
    let mut http = HttpConnector::new_with_resolver(PublicNames::new(targets));
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
        .build(Connector::new(https, timeout));
    Ok(client)
}

/// The system's resolver, less the addresses that may not be called. What it answers is what is dialled, so a name that
/// changes its address between check and use gains nothing.
///
/// A name is looked up once at a time, whoever asks for it: each lookup holds a thread until it ends, and a name server
/// that says nothing makes that long.
#[derive(Clone)]
pub struct PublicNames {
    targets: Arc<TargetPolicy>,
    lookups: Lookups,
}

type Lookups = Arc<Mutex<HashMap<Name, Lookup>>>;
type Lookup = Shared<Pin<Box<dyn Future<Output = Result<Vec<SocketAddr>, Arc<io::Error>>> + Send>>>;

impl PublicNames {
    fn new(targets: Arc<TargetPolicy>) -> Self {
        Self {
            targets,
            lookups: Lookups::default(),
        }
    }

    /// Joins the lookup of this name that is under way, or begins one by `resolve`.
    fn look_up<F>(&self, name: Name, resolve: impl FnOnce(Name) -> F) -> Lookup
    where
        F: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        let mut lookups = self.lookups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lookup) = lookups.get(&name) {
            return lookup.clone();
        }
        // A task of its own: it is forgotten when it ends, not when nobody waits for it any more.
        let running = tokio::spawn({
            let (resolved, name, lookups) = (resolve(name.clone()), name.clone(), self.lookups.clone());
            async move {
                let found = resolved.await.map_err(Arc::new);
                lookups.lock().unwrap_or_else(PoisonError::into_inner).remove(&name);
                found
            }
        });
        let lookup: Pin<Box<dyn Future<Output = _> + Send>> =
            Box::pin(async move { running.await.unwrap_or_else(|err| Err(Arc::new(io::Error::other(err)))) });
        let lookup = lookup.shared();
        lookups.insert(name, lookup.clone());
        lookup
    }
}

async fn ask_system(name: Name) -> io::Result<Vec<SocketAddr>> {
    Ok(tokio::net::lookup_host((name.as_str(), 0)).await?.collect())
}

impl Service<Name> for PublicNames {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let (targets, lookup) = (self.targets.clone(), self.look_up(name, ask_system));
        Box::pin(async move {
            let found = lookup.await.map_err(|err| io::Error::new(err.kind(), err))?;
            let any = !found.is_empty();
            let allowed: Vec<_> = found
                .into_iter()
                .filter(|address| targets.allows(address.ip()))
                .collect();
            if any && allowed.is_empty() {
                // The text is the endpoint's owner's to read, so it names no address of our network.
                return Err(io::Error::new(io::ErrorKind::PermissionDenied, NOT_PUBLIC));
            }
            Ok(allowed.into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    const ADDRESS: &str = "192.0.2.1:0";

    #[tokio::test]
    async fn a_name_is_looked_up_once_at_a_time() {
        let names = PublicNames::new(Arc::new(TargetPolicy::default()));
        let (asked, gate) = (AtomicUsize::new(0), Arc::new(tokio::sync::Semaphore::new(0)));
        let look_up = |name: &str| {
            let gate = gate.clone();
            names.look_up(name.parse().unwrap(), |_| {
                asked.fetch_add(1, Ordering::Relaxed);
                async move {
                    let _ = gate.acquire().await;
                    Ok(vec![ADDRESS.parse().unwrap()])
                }
            })
        };
        drop(look_up("a"));
        let (first, second, other) = (look_up("a"), look_up("a"), look_up("b"));
        assert_eq!(asked.load(Ordering::Relaxed), 2, "one a name");
        gate.add_permits(1);
        for lookup in [first, second, other] {
            assert_eq!(lookup.await.unwrap(), [ADDRESS.parse().unwrap()]);
        }
        assert!(names.lookups.lock().unwrap().is_empty(), "and none is kept");
        look_up("a").await.unwrap();
        assert_eq!(asked.load(Ordering::Relaxed), 3, "it may have changed");
    }

    #[tokio::test]
    async fn a_refused_name_tells_no_address() {
        let mut names = PublicNames::new(Arc::new(TargetPolicy::default()));
        let err = names.call("localhost".parse().unwrap()).await.unwrap_err();
        assert_eq!(err.kind(), io::ErrorKind::PermissionDenied);
        assert!(!err.to_string().contains("127.0.0.1"), "{err}");
    }
}
