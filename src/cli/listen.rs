//! `app listen`: forwards the messages of an application to a URL of this machine, over the API of a server, until it is
//! stopped.
//!
//! It has a poller of its own, whose place the server keeps, so that nothing is missed while either side is away. Must
//! not leave the poller behind when it is stopped.

mod forward;
mod poller;

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use clap::Args;
use hyper::Uri;
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use self::forward::Forwarder;
use self::poller::{CLOCKS, Earlier, Message, Place, Poller};
use super::application::name;
use super::outage::Outage;
use super::output::{HeaderParser, instant, say_aside};
use super::server::{Server, ServerSettings};
use crate::domain::pattern::{check_pattern, fits, has_star};
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Kind, Result};

/// How long the removal of the poller may take at the end.
const REMOVAL: Duration = Duration::from_secs(5);
/// How long the removal goes on after another signal: a shell and a terminal may both pass on the same Ctrl-C.
const SAME_SIGNAL: Duration = Duration::from_millis(500);
/// After which time the last messages from before the poller are read again. A batch that read the application before the
/// poller was made, and was stored after the first reading, is in neither; the server stores within 35 s.
const LATE: Duration = Duration::from_secs(60);
/// How far a new poller goes back before the last message of one that was removed: a message may become visible later
/// than one that was accepted after it.
const OVERLAP: Duration = Duration::from_secs(120);
/// The most ids of forwarded messages that are remembered, so that none is forwarded twice: 5 MB.
const MOST_REMEMBERED: usize = 100_000;

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Arguments {
    /// Where to forward messages to, such as http://localhost:3000/hooks
    #[arg(value_name = "TARGET", value_parser = target)]
    target: Uri,

    /// The application's id or uid [default: the token's]
    #[arg(long, env = "POSTRIDER_APP", value_name = "APP", value_parser = name)]
    app: Option<String>,

    /// Only messages of these types, comma-separated; * stands for any text: order.*
    #[arg(long, env = "POSTRIDER_EVENT_TYPES", value_name = "TYPES", value_delimiter = ',', value_parser = pattern)]
    event_types: Vec<String>,

    /// Begin with the messages of this time before now, such as 30s, 10m, 2h or 1d
    #[arg(long, env = "POSTRIDER_LISTEN_SINCE", value_name = "TIME", value_parser = span)]
    since: Option<Duration>,

    /// Send this header too, as "name: value"; repeat it, or give one a line
    #[arg(long, short = 'H', env = "POSTRIDER_LISTEN_HEADER", value_name = "NAME: VALUE", value_delimiter = '\n', value_parser = HeaderParser, hide_env_values = true)]
    header: Vec<(String, String)>,

    /// Print JSON, an object a line
    #[arg(long, env = "POSTRIDER_JSON")]
    json: bool,

    #[command(flatten)]
    server: ServerSettings,
}

const NOTES: &str = "\
Prints the secret that verifies the signatures, and then a line for each message: when it was accepted, its type, its id,
and the answer. A message is forwarded once: an answer other than 2xx does not repeat it. If nothing listens there,
the command says so at once, and tries again for 10 s before it goes on with the next message.

Nothing is missed while this machine sleeps or the server is away. Each command that runs gets every message. When it is
stopped, the command removes its poller; what a crash has left behind, the next one removes after a day.

Needs POSTRIDER_URL and POSTRIDER_TOKEN; the token of an application is enough.";

pub async fn run(arguments: Arguments) -> Result<()> {
    let server = arguments.server.required()?;
    let app = server.application_or(arguments.app.as_deref()).await?;
    // From here on a signal does not end the process at once, so the poller is always removed.
    let mut stop = Stop::new()?;
    let mut listener = Listener {
        server,
        app,
        arguments,
        seen: Seen::default(),
        outage: Outage::default(),
        forwarder: None,
        floor: Timestamp::default(),
        last: Timestamp::default(),
    };
    loop {
        let mut place = Place::random(&listener.app);
        let ended = tokio::select! {
            ended = listener.listen(&mut place) => ended,
            () = stop.signal() => return listener.remove(&place, &mut stop).await,
        };
        if let Err(err) = ended {
            // The error that ended the command matters more than one of the removal.
            let _ = listener.remove(&place, &mut stop).await;
            return Err(err);
        }
        tracing::warn!("the poller was removed meanwhile; making another one, and going on where it ended");
    }
}

/// Forwards the messages of one application.
struct Listener {
    server: Server,
    app: String,
    arguments: Arguments,
    seen: Seen,
    outage: Outage,
    /// Signs with the secret of the first poller, also when another one has taken its place.
    forwarder: Option<Forwarder>,
    /// Messages from before this instant are not asked for: what came before the command was not wanted.
    floor: Timestamp,
    /// When the last message that was forwarded was accepted, or when forwarding began.
    last: Timestamp,
}

impl Listener {
    /// Makes a poller and forwards messages until it was removed by another program, or until an error that does not pass
    /// by itself.
    async fn listen(&mut self, place: &mut Place) -> Result<()> {
        let poller = self.make(place).await?;
        let from = match self.forwarder {
            Some(_) => Some(self.last.minus(OVERLAP).max(self.floor)),
            None => {
                self.begin(&poller).await?;
                self.arguments.since.map(|_| self.floor)
            }
        };
        match self.forward_all(&poller, from).await {
            Err(err) if err.kind == Kind::NotFound => Ok(()),
            ended => ended,
        }
    }

    /// Makes a poller. If it is not the first one, waits for a server that is away.
    async fn make(&mut self, place: &mut Place) -> Result<Poller> {
        let patterns = &self.arguments.event_types;
        // Names go to the server, which knows them and so finds a misspelt one; patterns are applied here.
        let names = if patterns.iter().any(|pattern| has_star(pattern)) {
            &[][..]
        } else {
            &patterns[..]
        };
        loop {
            match place.make(&self.server, names).await {
                Ok(poller) => {
                    self.outage.ends();
                    return Ok(poller);
                }
                Err(err) if self.forwarder.is_none() => return Err(err),
                Err(err) => self.outage.wait(err).await?,
            }
        }
    }

    /// Begins to forward with the secret of the first poller, and prints it.
    async fn begin(&mut self, poller: &Poller) -> Result<()> {
        let (url, headers) = (self.arguments.target.clone(), &self.arguments.header);
        self.forwarder = Some(Forwarder::new(url, headers, poller.secret()?)?);
        self.last = self.server.now();
        self.floor = self.last.minus(self.arguments.since.unwrap_or(CLOCKS));
        let (key, target) = (&poller.key, &self.arguments.target);
        say_aside(match self.arguments.json {
            true => json!({"secret": key, "url": target.to_string()}).to_string(),
            false => {
                format!("The secret that verifies signatures: {key}\nForwarding to {target}; Ctrl-C ends it.")
            }
        })
        .await
    }

    /// Removes a poller, if there may be one. Another signal ends the removal.
    ///
    /// # Errors
    /// The reason why it is left behind, with what becomes of it.
    async fn remove(&self, place: &Place, stop: &mut Stop) -> Result<()> {
        let removal = tokio::time::timeout(REMOVAL, place.remove(&self.server));
        let removed = tokio::select! {
            removed = removal => removed.unwrap_or_else(|_| Err(Error::unavailable("no response in time"))),
            () = stop.signal_again() => Err(Error::unavailable("a signal ended its removal")),
        };
        removed.map_err(|err| {
            let uid = place.uid();
            Error::unavailable(format!(
                "the poller {uid} is left behind, and the next `app listen` removes it after a day"
            ))
            .because(err)
        })
    }

    /// Forwards messages until an error that does not pass by itself: first those from after `since`, if that is given,
    /// then those of the poller. The last of the former are read again after [`LATE`].
    async fn forward_all(&mut self, poller: &Poller, since: Option<Timestamp>) -> Result<()> {
        let mut again = None;
        if let Some(since) = since {
            self.forward_earlier(poller, since).await?;
            again = Some((Instant::now() + LATE, since.max(poller.complete_from.minus(OVERLAP))));
        }
        let mut confirmed: Option<String> = None;
        loop {
            if let Some((_, from)) = again.take_if(|(at, _)| Instant::now() >= *at) {
                self.forward_earlier(poller, from).await?;
            }
            match poller.poll(&self.server, confirmed.as_deref()).await {
                Ok(page) => {
                    self.outage.ends();
                    self.forward_page(&page.data).await?;
                    confirmed = page.iterator.or(confirmed);
                }
                Err(err) => self.outage.wait(err).await?,
            }
        }
    }

    /// Forwards the messages from after `since` that the poller does not have.
    async fn forward_earlier(&mut self, poller: &Poller, since: Timestamp) -> Result<()> {
        let mut earlier = Some(Earlier::Since(since));
        while let Some(place) = earlier.take() {
            match poller.earlier(&self.server, &self.app, &place).await {
                Ok((messages, next)) => {
                    self.outage.ends();
                    self.forward_page(&messages).await?;
                    earlier = next;
                }
                Err(err) => {
                    self.outage.wait(err).await?;
                    earlier = Some(place);
                }
            }
        }
        Ok(())
    }

    /// Forwards those messages of a page that were not forwarded before, in order.
    async fn forward_page(&mut self, messages: &[Message]) -> Result<()> {
        for message in messages {
            let patterns = &self.arguments.event_types;
            let is_wanted = patterns.is_empty() || patterns.iter().any(|pattern| fits(pattern, &message.event_type));
            if is_wanted && self.seen.is_new(&message.id) {
                self.forward(message).await?;
            }
            self.last = Timestamp::parse_rfc3339(&message.timestamp).unwrap_or(self.last);
        }
        Ok(())
    }

    /// Forwards a message and prints its line.
    async fn forward(&mut self, message: &Message) -> Result<()> {
        let forwarder = self
            .forwarder
            .as_mut()
            .ok_or_else(|| Error::internal("forwarding has not begun"))?;
        let ended = forwarder.send(message, &message.body()).await;
        let (
            Message {
                id,
                event_type,
                timestamp,
                ..
            },
            took,
        ) = (message, ended.took.as_millis() as u64);
        if self.arguments.json {
            let (status, error) = (ended.answer.as_ref().ok(), ended.answer.as_ref().err());
            let line = json!({
                "timestamp": timestamp, "eventType": event_type, "id": id, "status": status, "error": error,
                "durationMs": took
            });
            return say_aside(line.to_string()).await;
        }
        let answer = ended.answer.map_or_else(|reason| reason, |status| status.to_string());
        say_aside(format!(
            "{}  {event_type}  {id}  → {answer} in {took} ms",
            instant(timestamp)
        ))
        .await
    }
}

/// The messages that were forwarded.
#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    /// Notes a message. Returns false if it was noted before.
    fn is_new(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > MOST_REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

/// The signals that end the command: Ctrl-C, SIGTERM, and SIGHUP, which the end of a terminal sends.
struct Stop([Signal; 3]);

impl Stop {
    fn new() -> Result<Self> {
        let listen = |kind| signal(kind).map_err(|err| Error::internal("cannot listen for signals").because(err));
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [interrupt, terminate, hangup] = kinds.map(listen);
        Ok(Self([interrupt?, terminate?, hangup?]))
    }

    /// Waits for the first of them.
    async fn signal(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    }

    /// Waits for one of them after the first, for [`SAME_SIGNAL`] at least.
    async fn signal_again(&mut self) {
        tokio::time::sleep(SAME_SIGNAL).await;
        self.signal().await;
    }
}

/// Parses the URL to forward to.
fn target(text: &str) -> Result<Uri, String> {
    let url: Option<Uri> = text.parse().ok();
    let url = url.filter(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some());
    url.ok_or_else(|| "must begin with http:// or https://, such as http://localhost:3000/hooks".to_owned())
}

/// Parses a name of an event type, or a pattern.
fn pattern(text: &str) -> Result<String, String> {
    check_pattern(text).map(|()| text.to_owned())
}

/// Parses a time such as 10m.
fn span(text: &str) -> Result<Duration, String> {
    let rule = || "must be a number and s, m, h or d, such as 10m, and at most 90 days".to_owned();
    let (number, unit) = text.split_at_checked(text.len().saturating_sub(1)).ok_or_else(rule)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(rule()),
    };
    let number: u64 = number.parse().map_err(|_| rule())?;
    let span = number.checked_mul(seconds).filter(|seconds| *seconds <= 90 * 86_400);
    span.map(Duration::from_secs).ok_or_else(rule)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        for (text, seconds) in [
            ("30s", 30),
            ("10m", 600),
            ("2h", 7_200),
            ("1d", 86_400),
            ("90d", 7_776_000),
        ] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "m", "10", "-1m", "1.5h", "91d", "10 m", "1ü"] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_target_is_an_address_of_http() {
        assert!(target("http://localhost:3000/hooks").is_ok() && target("https://x.test").is_ok());
        for text in ["", "localhost:3000", "/hooks", "ftp://x", "http://"] {
            assert!(target(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_message_is_new_once() {
        let mut seen = Seen::default();
        assert!(seen.is_new("msg_1") && !seen.is_new("msg_1") && seen.is_new("msg_2"));
        for number in 0..MOST_REMEMBERED {
            seen.is_new(&number.to_string());
        }
        assert_eq!((seen.ids.len(), seen.order.len()), (MOST_REMEMBERED, MOST_REMEMBERED));
    }
}
