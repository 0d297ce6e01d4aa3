//! The poller of one `app listen`: it is made at the start and removed at the end. What crashes have left behind is
//! removed by the next one, after a day.
//!
//! Must not forward anything.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::cli::server::{Server, escape};
use crate::domain::secret::{EndpointSecret, random_text};
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Kind, Result};

/// The beginning of the description by which pollers of this command are known.
const MARK: &str = "app listen: ";
/// The beginning of the uids of its pollers.
const PREFIX: &str = "listen-";
/// The name of the consumer.
const CONSUMER: &str = "listen";
/// How long a poller that is not used is kept: a laptop may sleep over night.
const LEFT_BEHIND: Duration = Duration::from_hours(24);
/// Messages of one page: a page is confirmed when all of it was forwarded.
const PAGE: usize = 50;
/// How long the server may wait for a message, in seconds: shorter than the 30 s after which proxies cut connections.
const WAIT: u64 = 25;
/// The messages of a page of earlier ones: the most that the API allows.
const EARLIER: usize = 250;
/// How far the clocks of a server and its database may differ.
pub(super) const CLOCKS: Duration = Duration::from_secs(5);

/// A message as lists and polls show it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Message {
    pub id: String,
    pub event_type: String,
    payload: Box<RawValue>,
    pub timestamp: String,
    /// Headers of a delivery. Lists have none.
    #[serde(default)]
    headers: BTreeMap<String, String>,
}

/// A body that is no JSON object, as the API shows it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Raw {
    raw_payload: String,
}

/// A page of messages.
#[derive(Deserialize)]
pub(super) struct Page {
    pub data: Vec<Message>,
    pub iterator: Option<String>,
    done: bool,
}

/// A poller in a list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    id: String,
    description: String,
    created_at: String,
}

/// A consumer in a list.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Consumer {
    last_used_at: String,
}

#[derive(Deserialize)]
struct Key {
    key: String,
}

/// Where the poller of this process is, or will be. Its uid is random and known before it is made, so that it can be
/// removed whatever becomes of the response.
pub(super) struct Place {
    /// The path of the list of pollers.
    list: String,
    /// The path of the poller.
    path: String,
    /// Whether its making has begun.
    may_exist: bool,
}

/// The poller of this process.
pub(super) struct Poller {
    /// The path of the poller.
    path: String,
    /// The text of its signing secret.
    pub key: String,
    /// An instant after which every message is one that the poller has.
    pub complete_from: Timestamp,
}

impl Place {
    /// Returns a place in the application where no poller was made yet.
    pub fn random(app: &str) -> Self {
        let list = format!("/app/{app}/poller");
        Self {
            path: format!("{list}/{PREFIX}{}", random_text()),
            list,
            may_exist: false,
        }
    }

    /// Returns the uid of the poller.
    pub fn uid(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// Removes what was left behind, and makes a poller for these event types; none means all. Making it again makes no
    /// second one.
    ///
    /// # Errors
    /// As [`Server::put`]. The poller may then exist.
    pub async fn make(&mut self, server: &Server, event_types: &[String]) -> Result<Poller> {
        remove_left_behind(server, &self.list).await?;
        let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
        let description = format!("{MARK}{}, process {}", host.trim(), std::process::id());
        let mut body = json!({"uid": self.uid(), "description": description});
        if !event_types.is_empty() {
            body["eventTypes"] = json!(event_types);
        }
        self.may_exist = true;
        let _: Listed = server.put(&self.path, &body).await.map_err(|err| match err.kind {
            Kind::NotImplemented => Error::config("this server has no pollers: it is too old").because(err),
            _ => err,
        })?;
        let complete_from = server.now().plus(CLOCKS);
        let Key { key } = server.get(&format!("{}/secret", self.path)).await?;
        Ok(Poller {
            path: self.path.clone(),
            key,
            complete_from,
        })
    }

    /// Removes the poller, if its making has begun.
    ///
    /// # Errors
    /// As [`Server::delete`]; it is no error if there is none.
    pub async fn remove(&self, server: &Server) -> Result<()> {
        match self.may_exist {
            true => gone_is_fine(server.delete(&self.path).await),
            false => Ok(()),
        }
    }
}

impl Poller {
    /// Returns the secret, to sign with it.
    ///
    /// # Errors
    /// `Internal` if it is not one that signs.
    pub fn secret(&self) -> Result<EndpointSecret> {
        EndpointSecret::parse(&self.key).map_err(|rule| Error::internal(format!("the poller's secret {rule}")))
    }

    /// Waits for messages and returns them. `confirmed` is the last page's iterator: all of that page was forwarded.
    ///
    /// # Errors
    /// As [`Server::get`].
    pub async fn poll(&self, server: &Server, confirmed: Option<&str>) -> Result<Page> {
        let iterator = confirmed.map_or_else(String::new, |text| format!("&iterator={}", escape(text)));
        let query = format!("limit={PAGE}&wait={WAIT}{iterator}");
        server.get(&format!("{}/consumer/{CONSUMER}?{query}", self.path)).await
    }

    /// Returns a page of the messages from after `place`, oldest first, and the place behind them; none at the end. They
    /// are from before the poller was made, and perhaps a few that it has too.
    ///
    /// # Errors
    /// As [`Server::get`].
    pub async fn earlier(
        &self,
        server: &Server,
        app: &str,
        place: &Earlier,
    ) -> Result<(Vec<Message>, Option<Earlier>)> {
        let place = match place {
            Earlier::Since(instant) => format!("after={}", escape(&instant.to_rfc3339())),
            Earlier::Behind(id) => format!("iterator=-{id}"),
        };
        let before = escape(&self.complete_from.to_rfc3339());
        let mut page: Page = server
            .get(&format!("/app/{app}/msg?limit={EARLIER}&before={before}&{place}"))
            .await?;
        let next = page
            .data
            .first()
            .filter(|_| !page.done)
            .map(|newest| Earlier::Behind(newest.id.clone()));
        page.data.reverse();
        Ok((page.data, next))
    }
}

/// A place in the list of messages.
pub(super) enum Earlier {
    Since(Timestamp),
    Behind(String),
}

impl Message {
    /// Returns the bytes that are delivered. The API shows a body that is no JSON object within one, with the single
    /// member `rawPayload`. A payload that was sent in just that form looks the same, unless its text is an object too.
    pub fn body(&self) -> Bytes {
        let shown = self.payload.get();
        let raw = serde_json::from_str(shown).ok().map(|raw: Raw| raw.raw_payload);
        let raw = raw.filter(|text| serde_json::from_str::<Map<String, Value>>(text).is_err());
        raw.map_or_else(|| Bytes::from(shown.to_owned()), Bytes::from)
    }

    /// Returns whether the server also sends the older names of the signature headers.
    pub fn has_older_headers(&self) -> bool {
        self.headers.contains_key("svix-id")
    }
}

/// Removes the pollers of earlier processes that were not used for a day.
async fn remove_left_behind(server: &Server, list: &str) -> Result<()> {
    let mut marked = Vec::new();
    let collect = async |pollers: Vec<Listed>| {
        marked.extend(
            pollers
                .into_iter()
                .filter(|poller| poller.description.starts_with(MARK)),
        );
        Ok(())
    };
    server.walk(list, collect).await?;
    // After the first response: before it only this machine's clock is known, which may be days ahead.
    let before = server.now().minus(LEFT_BEHIND);
    for poller in marked {
        let mut used = vec![poller.created_at];
        let path = format!("{list}/{}", poller.id);
        let collect = async |consumers: Vec<Consumer>| {
            used.extend(consumers.into_iter().map(|consumer| consumer.last_used_at));
            Ok(())
        };
        let read = server.walk(&format!("{path}/consumer"), collect).await;
        let is_old = used
            .iter()
            .all(|at| Timestamp::parse_rfc3339(at).is_ok_and(|at| at < before));
        match read {
            Ok(()) if is_old => {
                tracing::info!(
                    poller = poller.id,
                    "removing a poller that an earlier `app listen` left behind"
                );
                gone_is_fine(server.delete(&path).await)?;
            }
            read => gone_is_fine(read)?,
        }
    }
    Ok(())
}

/// Accepts that a thing does not exist any more: another process may have removed it meanwhile.
fn gone_is_fine(done: Result<()>) -> Result<()> {
    match done {
        Err(err) if err.kind != Kind::NotFound => Err(err),
        _ => Ok(()),
    }
}
