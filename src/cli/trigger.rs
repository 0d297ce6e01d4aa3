//! `app trigger`: sends a message that is made of the example of its event type, over the API of a server.
//!
//! Must not write to a database: a message from there would not be sent at once.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::{RawValue, to_raw_value};

use super::application::name;
use super::output::say;
use super::server::{Server, ServerSettings};
use super::why::{ask_server, print};
use crate::api::explain::ExplanationOut;
use crate::domain::json_schema;
use crate::domain::verdict::Verdict;
use crate::error::{Error, Kind, Result};

/// The event type that needs no registration, and its payload: what the API sends as its example.
const PING: (&str, &str) = ("svix.ping", r#"{"success":true}"#);
/// How long --wait waits for the first attempts: longer than an attempt may take, 60 s.
const PATIENCE: Duration = Duration::from_secs(70);
/// Between two looks at what became of the message.
const PAUSE: Duration = Duration::from_millis(500);
/// The most names of a path: payloads are nested no deeper.
const MOST_DEPTH: usize = 100;

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Arguments {
    /// The event type
    #[arg(value_name = "TYPE", value_parser = name)]
    event_type: String,

    /// The application's id or uid [default: the token's]
    #[arg(long, env = "POSTRIDER_APP", value_name = "APP", value_parser = name)]
    app: Option<String>,

    /// Send the example to this endpoint alone, by its id or uid, whatever its filter says
    #[arg(long, env = "POSTRIDER_ENDPOINT", value_name = "ENDPOINT", value_parser = name, conflicts_with_all = ["set", "file"])]
    endpoint: Option<String>,

    /// Change the payload, as total=5 or customer.address.city=Ulm; repeat it, or give one a line. A value that is not
    /// JSON is a text
    #[arg(long, env = "POSTRIDER_TRIGGER_SET", value_name = "PATH=VALUE", value_delimiter = '\n', value_parser = assignment)]
    set: Vec<(String, Box<RawValue>)>,

    /// Take the payload from this JSON file, and not from the event type's example
    #[arg(long, env = "POSTRIDER_TRIGGER_FILE", value_name = "FILE")]
    file: Option<PathBuf>,

    /// Wait for the first attempts, and say as `app why` does what became of the message
    #[arg(long, env = "POSTRIDER_TRIGGER_WAIT")]
    wait: bool,

    #[command(flatten)]
    server: ServerSettings,
}

const NOTES: &str = "\
Prints the id of the message. Its payload is the first example in version 1 of the event type's schema, changed by --set,
or the file. It is an ordinary message of the application: all endpoints get it that want its type.

With --endpoint only that endpoint gets it, and `app listen` does not. The API sends nothing but examples to a single endpoint, so --set and --file
cannot change what it gets. The token of an application may send examples and no other messages, so it needs --endpoint.
In --set a number is an index only in a list that is there.

Needs POSTRIDER_URL and POSTRIDER_TOKEN.";

/// A message, as far as it is shown.
#[derive(Deserialize)]
struct Message {
    id: String,
}

/// A message to send. Its payload is kept as a text, so that the digits of its numbers are those that were given.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct NewMessage<'a> {
    event_type: &'a str,
    payload: &'a RawValue,
}

/// An event type, as far as its example needs it.
#[derive(Deserialize)]
struct EventType {
    schemas: Option<Box<RawValue>>,
}

pub async fn run(arguments: Arguments) -> Result<()> {
    let server = arguments.server.required()?;
    let app = server.application_or(arguments.app.as_deref()).await?;
    let message: Message = match &arguments.endpoint {
        Some(endpoint) => {
            let path = format!("/app/{app}/endpoint/{endpoint}/send-example");
            let body = json!({"eventType": arguments.event_type});
            let sent = server.post_once(&path, &body).await;
            sent.map_err(|err| unregistered(err, &arguments.event_type))?
        }
        None => send(&server, &app, &arguments).await?,
    };
    say(&message.id)?;
    match arguments.wait {
        true => wait(&server, &app, &message.id).await,
        false => Ok(()),
    }
}

/// Explains a refusal because the event type is not registered.
fn unregistered(err: Error, event_type: &str) -> Error {
    if err.kind != Kind::NotFound || !err.to_string().contains("event type") {
        return err;
    }
    let message = format!(
        "{event_type} is not registered as an event type, so it has no example; only {} needs no registration",
        PING.0
    );
    Error::new(Kind::NotFound, message).because(err)
}

/// Sends a message to all endpoints that want its type.
async fn send(server: &Server, app: &str, arguments: &Arguments) -> Result<Message> {
    let mut payload = payload(server, arguments).await?;
    for (path, value) in &arguments.set {
        let parts: Vec<&str> = path.split('.').collect();
        payload = set(&payload, &parts, value).map_err(|rule| Error::config(format!("--set {path}: {rule}")))?;
    }
    let body = NewMessage {
        event_type: &arguments.event_type,
        payload: &payload,
    };
    let sent = server.post_once(&format!("/app/{app}/msg"), &body).await;
    sent.map_err(|err| match err.kind {
        Kind::Forbidden => {
            Error::config("this token may not send messages; one of an application may send examples: add --endpoint")
                .because(err)
        }
        _ => err,
    })
}

/// Returns the payload before it is changed: the file, or else the event type's example, or else, if --set adds
/// something, an empty one.
async fn payload(server: &Server, arguments: &Arguments) -> Result<Box<RawValue>> {
    let event_type = &arguments.event_type;
    if let Some(path) = &arguments.file {
        let shown = path.display();
        let text = std::fs::read(path).map_err(|err| Error::config(format!("cannot read {shown}")).because(err))?;
        let value: Box<RawValue> =
            serde_json::from_slice(&text).map_err(|err| Error::config(format!("{shown} is not JSON")).because(err))?;
        return match value.get().starts_with('{') {
            true => Ok(value),
            false => Err(Error::config(format!("{shown} must be a JSON object, as payloads are"))),
        };
    }
    if event_type == PING.0 {
        return serde_json::from_str(PING.1).map_err(|err| Error::internal("the ping is JSON").because(err));
    }
    let found: Result<EventType> = server.get_patiently(&format!("/event-type/{event_type}")).await;
    let schemas = match found {
        Ok(found) => found.schemas,
        Err(err) if err.kind == Kind::NotFound && !arguments.set.is_empty() => {
            tracing::warn!("{event_type} is not registered as an event type: is it misspelt?");
            None
        }
        Err(err) => return Err(unregistered(err, event_type)),
    };
    match schemas
        .as_ref()
        .and_then(|schemas| json_schema::example(schemas.get(), 0))
    {
        Some(example) => {
            serde_json::from_str(example).map_err(|err| Error::internal("the example is JSON").because(err))
        }
        None if !arguments.set.is_empty() => {
            serde_json::from_str("{}").map_err(|err| Error::internal("an object is JSON").because(err))
        }
        None => Err(Error::config(format!(
            "there is no example of {event_type}: give a payload with --file or --set, or an example in version 1 of its \
             schema"
        ))),
    }
}

/// Waits until the message was tried at each endpoint that gets it, or for [`PATIENCE`], and prints what became of it.
/// Passes over a server that is away meanwhile.
async fn wait(server: &Server, app: &str, message: &str) -> Result<()> {
    let end = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut pages = Vec::new();
        let look = |page: ExplanationOut, goes_on| {
            pages.push((page, goes_on));
            Ok(())
        };
        let asked = ask_server(server, app, message, look).await;
        let is_over = tokio::time::Instant::now() >= end;
        match asked {
            Err(err) if is_over || err.kind != Kind::Unavailable => return Err(err),
            Ok(()) if is_over || pages.iter().all(|(page, _)| is_tried(page)) => {
                return pages.iter().try_for_each(|(page, goes_on)| print(page, *goes_on));
            }
            _ => tokio::time::sleep(PAUSE).await,
        }
    }
}

/// Returns whether the message was tried at each endpoint of the page that gets it.
fn is_tried(page: &ExplanationOut) -> bool {
    page.data.iter().all(|row| match row.verdict {
        Verdict::Sending => false,
        Verdict::Waiting => row.attempts > 0,
        _ => true,
    })
}

/// Parses `path=value`. The value is JSON, or else a text.
fn assignment(text: &str) -> Result<(String, Box<RawValue>), String> {
    let (path, value) = text.split_once('=').ok_or("must be a path, = and a value")?;
    let parts = path.split('.').count();
    if path.split('.').any(str::is_empty) || parts > MOST_DEPTH {
        return Err(format!(
            "its path must be up to {MOST_DEPTH} names with dots between them"
        ));
    }
    let value = match serde_json::from_str(value) {
        Ok(value) => value,
        Err(_) => to_raw_value(value).map_err(|err| err.to_string())?,
    };
    Ok((path.to_owned(), value))
}

/// Returns `payload` with the value at a path. Objects on the way are made; in a list the path has an index, at most one
/// behind the last. What is not on the way stays as it is written. The error is the broken rule.
fn set(payload: &RawValue, path: &[&str], value: &RawValue) -> Result<Box<RawValue>, String> {
    let Some((part, rest)) = path.split_first() else {
        return Ok(value.to_owned());
    };
    let written = match payload.get().as_bytes().first() {
        Some(b'{' | b'n') => {
            let members: Option<IndexMap<String, Box<RawValue>>> = parsed(payload)?;
            let mut members = members.unwrap_or_default();
            let below = members.get(*part).map_or(RawValue::NULL, |value| value);
            let new = set(below, rest, value)?;
            members.insert((*part).to_owned(), new);
            to_raw_value(&members)
        }
        Some(b'[') => {
            let mut values: Vec<Box<RawValue>> = parsed(payload)?;
            let length = values.len();
            let index = part.parse().ok().filter(|index| *index <= length);
            let index: usize = index.ok_or_else(|| format!("\"{part}\" must be an index from 0 to {length}"))?;
            let new = set(values.get(index).map_or(RawValue::NULL, |value| value), rest, value)?;
            match values.get_mut(index) {
                Some(place) => *place = new,
                None => values.push(new),
            }
            to_raw_value(&values)
        }
        _ => {
            return Err(format!(
                "\"{part}\" is below a value that is neither an object nor a list"
            ));
        }
    };
    written.map_err(|err| err.to_string())
}

fn parsed<'a, T: Deserialize<'a>>(value: &'a RawValue) -> Result<T, String> {
    serde_json::from_str(value.get()).map_err(|err| err.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the payload after these assignments, or the first error.
    fn after(assignments: &[&str]) -> Result<String, String> {
        let text = r#"{"total":1,"items":[{"n":1, "m":1.50}],"note":null,"big":12345678901234567890123}"#;
        let mut payload: Box<RawValue> = serde_json::from_str(text).expect("JSON");
        for text in assignments {
            let (path, value) = assignment(text)?;
            let parts: Vec<&str> = path.split('.').collect();
            payload = set(&payload, &parts, &value)?;
        }
        Ok(payload.get().to_owned())
    }

    #[test]
    fn values_are_json_or_texts_at_any_depth() {
        let payload = after(&[
            "total=5.10",
            "a.b=true",
            "items.0.n=2",
            "items.1=x=y",
            "note.by=\"7\"",
            "empty=",
        ]);
        let expected = r#"{"total":5.10,"items":[{"n":2,"m":1.50},"x=y"],"note":{"by":"7"},"big":12345678901234567890123,"a":{"b":true},"empty":""}"#;
        assert_eq!(payload.as_deref(), Ok(expected));
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for (text, rule) in [
            ("total", "must be a path, = and a value"),
            ("=1", "names with dots"),
            ("a..b=1", "names with dots"),
            ("total.x=1", "\"x\" is below a value that is neither"),
            ("items.x=1", "\"x\" must be an index from 0 to 1"),
            ("items.2=1", "\"2\" must be an index from 0 to 1"),
        ] {
            let said = after(&[text]).unwrap_err();
            assert!(said.contains(rule), "{text}: {said}");
        }
    }
}
