//! Builds the HTTP client of deliveries: no redirects, no proxy, no decompression, HTTP/1 only, and names resolve only
//! to addresses that may be called. Must not decide what an answer means.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::connection::Connector;
use super::names::PublicNames;
use super::trace::Traced;
use crate::error::{Error, Result};

/// How long an idle connection is kept. Common servers close theirs after five seconds; this client closes it before,
/// so that no attempt is lost on a connection that is being closed.
const IDLE: Duration = Duration::from_secs(4);
/// Idle connections that are kept for one host at most.
const IDLE_PER_HOST: usize = 64;
/// Header lines of an answer that are read at most. An answer with more counts by its status alone.
const MOST_HEADERS: usize = 256;

type Connect = Connector<HttpsConnector<Traced<HttpConnector<PublicNames>>>>;
pub type Client = hyper_util::client::legacy::Client<Connect, Full<Bytes>>;

/// Builds a client. A connect that takes longer than `timeout` fails; a connection over which the receiver has not read
/// a request within `timeout` is closed.
///
/// # Errors
/// `Config` if the system has no root certificates.
pub fn new(names: PublicNames, timeout: Duration) -> Result<Client> {
    let mut http = HttpConnector::new_with_resolver(names);
    http.enforce_http(false);
    http.set_nodelay(true);
    let https = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
        .map_err(|err| Error::config("no root certificates were found for https targets").because(err))?
        .https_or_http()
        .enable_http1()
        .wrap_connector(Traced(http));
    let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE)
        .pool_max_idle_per_host(IDLE_PER_HOST)
        .pool_timer(TokioTimer::new())
        // The sender sets Host itself, as the first header.
        .set_host(false)
        // Some receivers compare header names by case, and expect this form. Before, hyper was taught each customer's
        // capitals; what it remembered of them took 240 MB in an attack.
        .http1_title_case_headers(true)
        // An answer counts by its status, so malformed header lines are left out.
        .http1_allow_spaces_after_header_name_in_responses(true)
        .http1_allow_obsolete_multiline_headers_in_responses(true)
        .http1_ignore_invalid_headers_in_responses(true)
        .http1_max_headers(MOST_HEADERS)
        .build(Connector::new(https, timeout));
    Ok(client)
}
