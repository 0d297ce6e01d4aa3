//! The listener for probes and metrics: there before the database is, until the process ends. Must not be reached through a
//! proxy: it asks for no token. Called by app.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use poem::Server;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::listener::{CappedAcceptor, Patience};
use crate::api::{Probes, probe_routes};
use crate::error::{Error, Result};
use crate::loops::Loops;

/// A few probes and scrapers.
const MOST_CONNECTIONS: usize = 64;
/// A request has no body and may take this long to arrive.
const LONGEST_REQUEST: Duration = Duration::from_secs(10);
/// A page of metrics is some 20 kB.
const LONGEST_RESPONSE: Duration = Duration::from_secs(10);
const IDLE_CONNECTION: Duration = Duration::from_secs(75);

/// Answers at `wanted` from now on.
///
/// # Errors
/// `Config` when it cannot listen there.
pub async fn listen(wanted: SocketAddr, probes: &Arc<Probes>, loops: &Loops) -> Result<()> {
    let cannot = |err| Error::config(format!("cannot listen on {wanted} (POSTRIDER_METRICS_LISTEN)")).because(err);
    let listener = TcpListener::bind(wanted).await.map_err(cannot)?;
    let address = listener.local_addr().unwrap_or(wanted);
    let patience = Patience {
        request: LONGEST_REQUEST,
        response: LONGEST_RESPONSE,
    };
    let acceptor = CappedAcceptor::new(listener, MOST_CONNECTIONS, patience).map_err(cannot)?;
    tracing::info!(%address, "probes and metrics");
    let routes = probe_routes(probes);
    // It is not stopped: the end of the process is its end.
    loops.spawn(
        "listener for probes and metrics",
        &CancellationToken::new(),
        async move {
            let server = Server::new_with_acceptor(acceptor).idle_timeout(IDLE_CONNECTION);
            if let Err(err) = server.run(routes).await {
                tracing::error!(%err, "probes and metrics are not answered any more");
            }
        },
    );
    Ok(())
}
