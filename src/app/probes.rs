//! Runs the listener for probes and metrics.
//!
//! It listens before the database answers, so that a probe can see a start that waits, and until the process ends. It
//! asks for no token: the public proxy must not lead to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::http::listener::{self, Limits};
use crate::api::{Probes, probe_routes};
use crate::error::{Error, Result};
use crate::loops::Loops;

/// Enough for a few probes and scrapers. Their requests have no body, and a page of metrics has some 20 kB.
const LIMITS: Limits = Limits {
    connections: 64,
    request: Duration::from_secs(10),
    response: Duration::from_secs(10),
    progress: Duration::from_secs(10),
    silence: Duration::from_secs(75),
};

/// Serves probes and metrics at `wanted` from now on, in a loop of its own.
///
/// # Errors
/// `Config` if the process cannot listen there.
pub async fn listen(wanted: SocketAddr, probes: &Arc<Probes>, loops: &Loops) -> Result<()> {
    let cannot = |err| Error::config(format!("cannot listen on {wanted} (POSTRIDER_METRICS_LISTEN)")).because(err);
    let listener = TcpListener::bind(wanted).await.map_err(cannot)?;
    let address = listener.local_addr().unwrap_or(wanted);
    tracing::info!(%address, "probes and metrics");
    let routes = probe_routes(probes);
    // The token is never cancelled: the listener ends with the process.
    loops.spawn(
        "listener for probes and metrics",
        &CancellationToken::new(),
        async move {
            let serving = listener::serve(listener, LIMITS, routes, std::future::pending(), Duration::ZERO);
            if let Err(err) = serving.await {
                tracing::error!(%err, "probes and metrics are no longer answered");
            }
        },
    );
    Ok(())
}
