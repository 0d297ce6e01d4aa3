//! The listener for probes and metrics: there before the database is, until the process ends. Must not be reached through a
//! proxy: it asks for no token. Called by app.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::http::listener::{self, Limits};
use crate::api::{Probes, probe_routes};
use crate::error::{Error, Result};
use crate::loops::Loops;

/// A few probes and scrapers; their requests have no body, and a page of metrics is some 20 kB.
const LIMITS: Limits = Limits {
    connections: 64,
    request: Duration::from_secs(10),
    response: Duration::from_secs(10),
    progress: Duration::from_secs(10),
    silence: Duration::from_secs(75),
};

/// Answers at `wanted` from now on.
///
/// # Errors
/// `Config` when it cannot listen there.
pub async fn listen(wanted: SocketAddr, probes: &Arc<Probes>, loops: &Loops) -> Result<()> {
    let cannot = |err| Error::config(format!("cannot listen on {wanted} (POSTRIDER_METRICS_LISTEN)")).because(err);
    let listener = TcpListener::bind(wanted).await.map_err(cannot)?;
    let address = listener.local_addr().unwrap_or(wanted);
    tracing::info!(%address, "probes and metrics");
    let routes = probe_routes(probes);
    // It is not stopped: the end of the process is its end.
    loops.spawn(
        "listener for probes and metrics",
        &CancellationToken::new(),
        async move {
            let serving = listener::serve(listener, LIMITS, routes, std::future::pending(), Duration::ZERO);
            if let Err(err) = serving.await {
                tracing::error!(%err, "probes and metrics are not answered any more");
            }
        },
    );
    Ok(())
}
