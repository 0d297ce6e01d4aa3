//! Receives webhooks at `/trial/{random}`, on a server that may send to its own machine. The API lists what came.
//!
//! Must not check signatures: whoever looks at a request sees its headers.

use std::collections::BTreeMap;
use std::sync::Arc;

use poem::endpoint::make;
use poem::error::{NotFoundError, ReadBodyError};
use poem::http::{HeaderMap, StatusCode};
use poem::{IntoResponse, Request, Response, Route};

use crate::api::trial::{MOST_BODY, Received, Trial, is_random};
use crate::api::wire::error::into_poem;
use crate::clock::Clock;
use crate::error::{Error, Kind};

/// The path as the metrics name it.
pub(crate) const PATH: &str = "/trial/{random}";
const PREFIX: &str = "/trial/";

/// Adds the receiver to the routes, if there is one.
pub(crate) fn add(route: Route, trial: Option<&Arc<Trial>>, clock: &Clock) -> Route {
    let Some(trial) = trial else { return route };
    let (trial, clock) = (trial.clone(), clock.clone());
    let receiver = make(move |request| receive(request, trial.clone(), clock.clone()));
    route.at("/trial/:random", receiver)
}

/// Keeps a request of any method.
async fn receive(request: Request, trial: Arc<Trial>, clock: Clock) -> poem::Result<Response> {
    let (parts, body) = request.into_parts();
    let random = parts.uri.path().strip_prefix(PREFIX).unwrap_or_default();
    if !is_random(random) {
        return Err(NotFoundError.into());
    }
    let busy = || {
        into_poem(&Error::unavailable(
            "too many requests come to the trial receiver; try again",
        ))
    };
    let _turn = trial.turn().ok_or_else(busy)?;
    let body = body
        .into_bytes_limit(MOST_BODY)
        .await
        .map_err(|err| into_poem(&refused(&err)))?;
    trial.keep(Received {
        number: 0,
        random: random.to_owned(),
        at: clock.now(),
        method: parts.method.to_string(),
        headers: texts(&parts.headers),
        body: body.into(),
    });
    Ok(StatusCode::NO_CONTENT.into_response())
}

fn refused(err: &ReadBodyError) -> Error {
    match err {
        ReadBodyError::PayloadTooLarge => Error::new(
            Kind::TooLarge,
            format!("the trial receiver takes at most {MOST_BODY} bytes"),
        ),
        _ => Error::new(Kind::Malformed, "the body was cut off"),
    }
}

/// Returns the headers as texts; several of one name are joined.
fn texts(headers: &HeaderMap) -> BTreeMap<String, String> {
    let mut texts = BTreeMap::<String, String>::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        match texts.get_mut(name.as_str()) {
            Some(known) => *known = format!("{known}, {value}"),
            None => drop(texts.insert(name.to_string(), value.into_owned())),
        }
    }
    texts
}
