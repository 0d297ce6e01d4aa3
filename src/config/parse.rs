//! Parses the texts of settings into their values. The error names the broken rule.
//!
//! Must not know which setting a text belongs to.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use url::{Host, Url};

/// Parses an address and a port, or a colon and a port alone. `localhost` is the only name that is accepted, because it
/// means the same on every machine.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, String> {
    let (ip, port) = match text.rsplit_once(':') {
        Some(("", port)) => (Ipv4Addr::UNSPECIFIED, port),
        Some(("localhost", port)) => (Ipv4Addr::LOCALHOST, port),
        _ => return text.parse().map_err(|_| SOCKET_ADDRESS.to_owned()),
    };
    let port = port.parse().map_err(|_| SOCKET_ADDRESS.to_owned())?;
    Ok(SocketAddr::new(ip.into(), port))
}

const SOCKET_ADDRESS: &str = "must be an address and a port: 127.0.0.1:8080, [::1]:8080, localhost:8080, or :8080 for all \
                              IPv4 addresses";

/// Parses an absolute http or https URL to which a path can be appended, and returns it without a trailing slash.
///
/// A wildcard address (0.0.0.0 or [::]) becomes the loopback address: Compose builds this URL from `BIND`, and a
/// browser cannot open a wildcard address.
pub(super) fn public_url(text: &str) -> Result<String, String> {
    let mut url = Url::parse(text).map_err(|err| format!("must be an absolute http or https URL: {err}"))?;
    let itself = match url.host() {
        Some(Host::Ipv4(ip)) if ip.is_unspecified() => Some("127.0.0.1"),
        Some(Host::Ipv6(ip)) if ip.is_unspecified() => Some("[::1]"),
        _ => None,
    };
    if itself.is_some() {
        url.set_host(itself).map_err(|err| err.to_string())?;
    }
    let plain = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    if !matches!(url.scheme(), "http" | "https") || !plain || url.password().is_some() {
        return Err("must be an http or https URL without user name, query and fragment".to_owned());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// Parses a comma-separated list of origins, or `*` for any, and returns it as the content security policy writes it. A
/// host may begin with `*.` for all of its subdomains.
pub(super) fn ancestors(text: &str) -> Result<String, String> {
    if text.trim() == "*" {
        return Ok("*".to_owned());
    }
    let origins = text.split(',').map(|text| origin(text.trim()));
    Ok(origins.collect::<Result<Vec<_>, _>>()?.join(" "))
}

fn origin(text: &str) -> Result<String, String> {
    let rule = || "must be * or origins such as https://app.example.com, comma-separated".to_owned();
    // Without the star: the parser of URLs takes one anywhere.
    let (plain, below) = match text.split_once("://*.") {
        Some((scheme, host)) => (format!("{scheme}://{host}"), true),
        None => (text.to_owned(), false),
    };
    let url = Url::parse(&plain).map_err(|_| rule())?;
    let origin = url.origin().ascii_serialization();
    let is_origin = url.as_str() == format!("{origin}/") && !origin.contains(['*', ';', '\'', ' ']);
    if !is_origin || !matches!(url.scheme(), "http" | "https") {
        return Err(rule());
    }
    Ok(if below {
        origin.replacen("://", "://*.", 1)
    } else {
        origin
    })
}

/// Parses whole seconds from `LEAST` to `MOST`.
pub(super) fn seconds<const LEAST: u64, const MOST: u64>(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (LEAST..=MOST).contains(seconds));
    seconds
        .map(Duration::from_secs)
        .ok_or_else(|| format!("must be whole seconds from {LEAST} to {MOST}"))
}

/// Parses whole days from `LEAST` to `MOST`.
pub(super) fn days<const LEAST: u64, const MOST: u64>(text: &str) -> Result<Duration, String> {
    let days = text.parse().ok().filter(|days| (LEAST..=MOST).contains(days));
    days.map(|days: u64| Duration::from_hours(24 * days))
        .ok_or_else(|| format!("must be whole days from {LEAST} to {MOST}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_frame_the_portal_is_any_page_or_those_of_origins() {
        for (text, list) in [
            ("*", "*"),
            ("https://app.example.com", "https://app.example.com"),
            (
                "https://App.example.com/, http://localhost:3000",
                "https://app.example.com http://localhost:3000",
            ),
            ("https://*.example.com:8443", "https://*.example.com:8443"),
        ] {
            assert_eq!(ancestors(text).as_deref(), Ok(list), "{text}");
        }
        for text in [
            "",
            "https://a.example,*",
            "app.example.com",
            "https://a.example/path",
            "https://a.example?x",
            "https://u@a.example",
            "https://a.example; script-src *",
            "https://a.*.example",
            "https://*",
            "ftp://a.example",
            "'self'",
            "data:",
        ] {
            assert!(ancestors(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_to_listen_on_may_be_a_port_alone_or_localhost() {
        for (text, address) in [
            ("127.0.0.1:8080", Some("127.0.0.1:8080")),
            ("[::1]:0", Some("[::1]:0")),
            (":8080", Some("0.0.0.0:8080")),
            ("localhost:8080", Some("127.0.0.1:8080")),
            ("localhost", None),
            ("8080", None),
            (":80800", None),
            ("::1:8080", None),
            ("elsewhere:8080", None),
        ] {
            let read = socket_address(text).map(|address| address.to_string());
            assert_eq!(read.as_deref().ok(), address, "{text}");
            assert!(read.is_ok() || read.is_err_and(|rule| rule.contains("localhost:8080")));
        }
    }
}
