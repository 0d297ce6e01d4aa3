//! `app tail`: prints the attempts of an application or of all of them as they are recorded, over the API of a server,
//! until it is stopped.
//!
//! Must not ask an idle server more than once a second.

mod feed;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use self::feed::{Feed, Hold};
use super::application::name;
use super::outage::Outage;
use super::output::{instant, say};
use super::server::{Server, ServerSettings};
use crate::api::{ApplicationOut, EndpointOut};
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Kind, Result};

/// Between two requests that find nothing.
const IDLE: Duration = Duration::from_secs(1);
/// Between two requests of which the first has found something.
const BUSY: Duration = Duration::from_millis(200);
/// Between two looks for new endpoints, for each request that a look takes.
const LOOK: Duration = Duration::from_secs(10);
/// The most endpoints that are watched.
const MOST_ENDPOINTS: usize = 10_000;

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Arguments {
    /// Only this application's, by its id or uid [default: the token's, or all]
    #[arg(long, env = "POSTRIDER_APP", value_name = "APP", value_parser = name)]
    app: Option<String>,

    /// Only those at this endpoint of the application, by its id or uid
    #[arg(long, env = "POSTRIDER_ENDPOINT", value_name = "ENDPOINT", value_parser = name)]
    endpoint: Option<String>,

    /// Only attempts that failed
    #[arg(long, env = "POSTRIDER_TAIL_FAILED")]
    failed: bool,

    /// Print each attempt as JSON, as the API shows it, with its appId
    #[arg(long, env = "POSTRIDER_JSON")]
    json: bool,

    #[command(flatten)]
    server: ServerSettings,
}

const NOTES: &str = "\
A line for each attempt that is recorded from now on: when it began, how it ended, the ids of its application, endpoint
and message, and the answer or why there was none. Each is printed once. One that took long comes after others that began
later. If the server is away, the command waits for it, and then prints what was recorded meanwhile.

The API is asked at most once a second while nothing happens. A new message of the application makes it ask for all its
endpoints at once; a retry at one of 30 endpoints may come a minute late, and so may all attempts without --app. With
--endpoint an attempt comes within a second.

Needs POSTRIDER_URL and POSTRIDER_TOKEN; the token of an application is enough.";

pub async fn run(arguments: Arguments) -> Result<()> {
    let server = arguments.server.required()?;
    let app = match arguments.app {
        // What is printed has the id, also if the uid was given.
        Some(app) => Some(server.get::<Id>(&format!("/app/{app}")).await?.id),
        None => server.application().await?,
    };
    if arguments.endpoint.is_some() && app.is_none() {
        return Err(Error::config(
            "--endpoint needs --app: an endpoint is found in its application",
        ));
    }
    let mut tail = Tail {
        server,
        app,
        endpoint: arguments.endpoint,
        failed: arguments.failed,
        json: arguments.json,
        feeds: Vec::new(),
        hold: Hold::default(),
        turn: 0,
        waiting: VecDeque::new(),
        message: None,
    };
    tail.begin().await?;
    tail.run().await
}

/// The endpoints that are watched, and how.
struct Tail {
    server: Server,
    /// The id of the only application that is watched.
    app: Option<String>,
    endpoint: Option<String>,
    failed: bool,
    json: bool,
    feeds: Vec<Feed>,
    hold: Hold,
    /// The number of steps that were not called for.
    turn: usize,
    /// The places of the endpoints that are read next, because a message came.
    waiting: VecDeque<usize>,
    /// The newest message of the application.
    message: Option<String>,
}

/// A page of messages, as far as it shows that there is a new one.
#[derive(Deserialize)]
struct Messages {
    data: Vec<Id>,
}

#[derive(Deserialize)]
struct Id {
    id: String,
}

impl Tail {
    /// Begins with what is recorded from now on.
    async fn begin(&mut self) -> Result<()> {
        let mut feeds = Vec::new();
        for (app, endpoint) in self.endpoints().await?.0 {
            feeds.push(Feed::from_now(&self.server, &app, &endpoint, self.failed).await?);
        }
        self.feeds = feeds;
        tracing::info!(endpoints = self.feeds.len(), "waiting for attempts");
        Ok(())
    }

    /// Reads the endpoints in turn. Ends with the first error that does not pass by itself.
    async fn run(&mut self) -> Result<()> {
        let began = self.server.now();
        let (mut outage, mut last_response) = (Outage::default(), began);
        let mut look_at = Instant::now() + LOOK;
        loop {
            let done = match Instant::now() >= look_at && self.endpoint.is_none() {
                true => self.look(began).await.map(|requests| {
                    look_at = Instant::now() + LOOK * requests;
                    false
                }),
                false => self.step().await,
            };
            match done {
                Ok(found) => {
                    if outage.ends() {
                        self.hold.keep(last_response, self.server.now());
                    }
                    last_response = self.server.now();
                    tokio::time::sleep(if found { BUSY } else { IDLE }).await;
                }
                Err(err) => outage.wait(err).await?,
            }
        }
    }

    /// Makes one request, or reads one endpoint: one that waits because a message came, or else by turns the next one and
    /// the newest message. Returns whether there was something new.
    async fn step(&mut self) -> Result<bool> {
        if let Some(place) = self.waiting.pop_front() {
            return self.read(place).await;
        }
        self.turn += 1;
        match (&self.app, &self.endpoint) {
            (Some(app), None) if self.feeds.len() > 1 && self.turn.is_multiple_of(2) => {
                let path = format!("/app/{app}/msg?limit=1&with_content=false");
                let messages: Messages = self.server.get(&path).await?;
                let newest = messages.data.into_iter().next().map(|message| message.id);
                let is_new = newest != self.message;
                self.message = newest;
                if is_new {
                    self.waiting.extend(0..self.feeds.len());
                }
                Ok(is_new)
            }
            (Some(_), None) if self.feeds.len() > 1 => self.read(self.turn / 2).await,
            _ => self.read(self.turn).await,
        }
    }

    /// Reads and prints what is new at the endpoint of this turn. Returns whether there was something.
    async fn read(&mut self, turn: usize) -> Result<bool> {
        let count = self.feeds.len().max(1);
        let Some(feed) = self.feeds.get_mut(turn % count) else {
            return Ok(false);
        };
        match feed.read(&self.server, self.failed, &mut self.hold).await {
            Ok(rows) => {
                let (app, endpoint) = (feed.app.clone(), feed.endpoint.clone());
                for row in &rows {
                    self.print(&app, &endpoint, row).await?;
                }
                Ok(!rows.is_empty())
            }
            // It was deleted.
            Err(err) if err.kind == Kind::NotFound && self.endpoint.is_none() => {
                self.feeds.remove(turn % count);
                Ok(false)
            }
            Err(err) => Err(err),
        }
    }

    /// Looks for endpoints that were made since; all of their attempts are new. Returns how many requests it took.
    async fn look(&mut self, began: Timestamp) -> Result<u32> {
        let (found, requests) = self.endpoints().await?;
        let known: BTreeSet<_> = self.feeds.iter().map(|feed| feed.endpoint.clone()).collect();
        let new = found.into_iter().filter(|(_, endpoint)| !known.contains(endpoint));
        self.feeds
            .extend(new.map(|(app, endpoint)| Feed::since(began, &app, &endpoint)));
        Ok(requests)
    }

    /// Returns the endpoints to watch, each with its application, and how many requests that took.
    async fn endpoints(&self) -> Result<(Vec<(String, String)>, u32)> {
        if let (Some(app), Some(endpoint)) = (&self.app, &self.endpoint) {
            let found: EndpointOut = self.server.get(&format!("/app/{app}/endpoint/{endpoint}")).await?;
            return Ok((vec![(app.clone(), found.id)], 1));
        }
        let mut apps = Vec::new();
        match &self.app {
            Some(app) => apps.push(app.clone()),
            None => {
                let add = async |page: Vec<ApplicationOut>| {
                    apps.extend(page.into_iter().map(|app| app.id));
                    Ok(())
                };
                self.server.walk("/app", add).await?;
            }
        }
        let (mut found, requests) = (Vec::new(), 1 + apps.len());
        for app in apps {
            let add = async |page: Vec<EndpointOut>| {
                found.extend(page.into_iter().map(|endpoint| (app.clone(), endpoint.id)));
                match found.len() > MOST_ENDPOINTS {
                    true => Err(Error::config(format!(
                        "there are more than {MOST_ENDPOINTS} endpoints: name an application with --app"
                    ))),
                    false => Ok(()),
                }
            };
            self.server.walk(&format!("/app/{app}/endpoint"), add).await?;
        }
        Ok((found, u32::try_from(requests).unwrap_or(u32::MAX)))
    }

    /// Prints an attempt. If it had no answer, asks for the reason, which lists leave out.
    async fn print(&self, app: &str, endpoint: &str, row: &Value) -> Result<()> {
        let [id, message] = ["id", "msgId"].map(|name| row[name].as_str().unwrap_or_default());
        let mut row = row.clone();
        if row["responseStatusCode"] == 0 {
            let path = format!("/app/{app}/msg/{message}/attempt/{id}");
            // It is shown without a reason if that fails: the attempt counts as printed, and must not be lost.
            row = self.server.get(&path).await.unwrap_or(row);
        }
        if self.json {
            row["appId"] = app.into();
            return say(row.to_string());
        }
        let ended = if row["status"] == 0 { "delivered" } else { "failed   " };
        let reason = row["error"]["text"].as_str().unwrap_or("no answer");
        let answer = match row["responseStatusCode"].as_i64() {
            Some(0) | None => reason.to_owned(),
            Some(status) => status.to_string(),
        };
        let next = row["nextAttempt"].as_str();
        let next = next.map_or_else(String::new, |at| format!(", again at {}", instant(at)));
        let (at, took) = (
            instant(row["timestamp"].as_str().unwrap_or_default()),
            &row["responseDurationMs"],
        );
        say(format!(
            "{at}  {ended}  {app}  {endpoint}  {message}  {answer} in {took} ms{next}"
        ))
    }
}
