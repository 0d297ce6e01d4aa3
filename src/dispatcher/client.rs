//! The HTTP client of deliveries: no redirects, no proxy, no decompression, and no address that may not be called.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::connection::Connector;
use super::names::PublicNames;
use crate::error::{Error, Result};

/// Common servers close an idle connection after five seconds; ours goes before theirs does, so that no attempt is
/// lost to a connection that was closing.
const IDLE: Duration = Duration::from_secs(4);
/// Idle connections kept for one host.
const IDLE_PER_HOST: usize = 64;
/// Header lines of an answer that are read. With more of them the status alone is.
const MOST_HEADERS: usize = 256;

type Connect = Connector<HttpsConnector<HttpConnector<PublicNames>>>;
pub type Client = hyper_util::client::legacy::Client<Connect, Full<Bytes>>;

/// Within `timeout` a connect ends, and what is written has been read, or the connection is closed.
pub fn new(names: PublicNames, timeout: Duration) -> Result<Client> {
    let mut http = HttpConnector::new_with_resolver(names);
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
        // The sender sets it, as the first.
        .set_host(false)
        // Some receivers compare names by their capitals, and expect these.
        .http1_title_case_headers(true)
        // An answer counts by its status: lines that are malformed are left out.
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .http1_max_headers(MOST_HEADERS)
        .build(Connector::new(https, timeout));
    Ok(client)
}
