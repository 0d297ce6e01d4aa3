//! Makes the traffic of a scenario: the messages of the other customers, and the adversary's requests.
//!
//! Must not judge the responses, except that messages must be accepted while there is no pressure.

use super::report::Figures;
use super::site::Replica;
use crate::Failure;
use crate::generator::{Shot, Volley, closed_loop, open_loop};
use crate::receiver::Receiver;
use crate::wire::{Connection, status};
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The number of customers that do nothing wrong.
const OTHERS: usize = 4;
/// Longer than any deadline of the program.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE_WITHOUT_CONNECTION: Duration = Duration::from_millis(50);

/// Returns a payload of 600 bytes.
pub fn payload() -> String {
    let note = "abcdefghijklmnopqrstuvwxyz ".repeat(21);
    format!(r#"{{"invoice":"in_0001","note":"{note}"}}"#)
}

/// Returns the body of a request that posts [`payload`].
pub fn message() -> String {
    format!(r#"{{"eventType":"invoice.paid","payload":{}}}"#, payload())
}

/// The other customers, each with a prepared request.
pub struct Others(Vec<Arc<Shot>>);

impl Others {
    /// Creates their applications, each with an endpoint at the receiver, if there is one.
    pub async fn new(replica: &Replica, receiver: Option<&Receiver>) -> Result<Self, Failure> {
        let mut shots = Vec::new();
        for number in 0..OTHERS {
            let target = receiver.map(target);
            let path = replica.server.application(&format!("other {number}"), target).await?;
            shots.push(shot(replica, &path));
        }
        Ok(Self(shots))
    }

    /// Posts over so many connections, each of which waits for its response before it sends again.
    pub async fn post_when_answered(&self, connections: u32, length: Duration) -> Volley {
        let each = connections / OTHERS as u32;
        merged(join_all(self.0.iter().map(|shot| closed_loop(shot, each, length))).await)
    }

    /// Posts `rate` messages per second in all, whether or not earlier ones have a response.
    pub async fn post_steadily(&self, rate: u32, length: Duration) -> Volley {
        let each = rate / OTHERS as u32;
        merged(join_all(self.0.iter().map(|shot| open_loop(shot, each, length))).await)
    }
}

fn merged(volleys: Vec<Volley>) -> Volley {
    volleys.into_iter().fold(Volley::default(), |mut all, volley| {
        all.merge(volley);
        all
    })
}

/// Prepares the request that posts a message to `replica`, at the path of an application's messages.
pub fn shot(replica: &Replica, path: &str) -> Arc<Shot> {
    let Replica { server, token, .. } = replica;
    Arc::new(Shot::new(server.address, token, path, &message(), false))
}

/// Returns the application's id in the path of its messages.
pub fn app_of(path: &str) -> &str {
    path.split('/').nth_back(1).unwrap_or_default()
}

/// Returns the URL of an endpoint at the receiver.
pub fn target(receiver: &Receiver) -> String {
    format!("http://{}/hook", receiver.address)
}

/// Adds the figures of a volley that was posted for `length`: messages accepted per second, refusals, and the time to
/// the response, refusals included.
pub fn add_acceptance(figures: &mut Figures, prefix: &str, volley: &Volley, length: Duration) {
    let waits = waits_ms(volley);
    let at = |share: f64| {
        let last = waits.len().saturating_sub(1) as f64;
        waits.get((last * share) as usize).copied()
    };
    let unavailable: usize = volley
        .refused
        .iter()
        .filter(|(reason, _)| reason.starts_with("503"))
        .map(|(_, count)| count)
        .sum();
    let refused: usize = volley.refused.values().sum();
    let first = volley.accepted.iter().map(|message| message.sent).min();
    let last = volley.accepted.iter().map(|message| message.answered).max();
    let took = first.zip(last).map_or(length, |(first, last)| length.max(last - first));
    let rate = volley.accepted.len() as f64 / took.as_secs_f64();
    figures.add(format!("{prefix}accepted_per_s"), rate);
    for (name, share) in [("p50_ms", 0.5), ("p99_ms", 0.99), ("max_ms", 1.0)] {
        if let Some(wait) = at(share) {
            figures.add(format!("{prefix}{name}"), wait);
        }
    }
    figures.add(format!("{prefix}503s"), unavailable as f64);
    figures.add(format!("{prefix}otherwise_refused"), (refused - unavailable) as f64);
}

/// Returns the times to the responses in milliseconds, refusals included, the shortest first.
pub fn waits_ms(volley: &Volley) -> Vec<f64> {
    let mut waits: Vec<f64> = volley
        .accepted
        .iter()
        .map(|message| message.answered - message.sent)
        .chain(volley.refused_after.iter().copied())
        .map(|wait| wait.as_secs_f64() * 1e3)
        .collect();
    waits.sort_by(f64::total_cmp);
    waits
}

/// The adversary's requests, which end when this is dropped. Each request's task adds the statuses of its responses;
/// the scenario reads the counts under the same lock.
pub struct Pressure {
    _tasks: JoinSet<()>,
    answers: Arc<Mutex<BTreeMap<u16, usize>>>,
}

impl Pressure {
    /// Keeps each of `requests` in flight: sends it again as soon as it has a response, but at most once per `period`.
    pub fn start(address: SocketAddr, requests: Vec<String>, period: Duration) -> Self {
        let answers = Arc::default();
        let mut tasks = JoinSet::new();
        for request in requests {
            tasks.spawn(press(address, request, period, Arc::clone(&answers)));
        }
        Self { _tasks: tasks, answers }
    }

    /// Returns how many requests were answered with a status from `statuses`.
    pub fn answered(&self, statuses: std::ops::Range<u16>) -> f64 {
        let answers = self.answers.lock().unwrap();
        answers.range(statuses).map(|(_, count)| count).sum::<usize>() as f64
    }
}

async fn press(address: SocketAddr, request: String, period: Duration, answers: Arc<Mutex<BTreeMap<u16, usize>>>) {
    let mut connection = None;
    loop {
        let next = Instant::now() + period;
        match timeout(PATIENCE, exchange(address, &mut connection, &request)).await {
            Ok(Ok(status)) => *answers.lock().unwrap().entry(status).or_default() += 1,
            _ => {
                connection = None;
                tokio::time::sleep(PAUSE_WITHOUT_CONNECTION).await;
            }
        }
        tokio::time::sleep_until(next.into()).await;
    }
}

async fn exchange(address: SocketAddr, connection: &mut Option<Connection>, request: &str) -> io::Result<u16> {
    let open = match connection.take() {
        Some(open) => open,
        None => Connection::open(address).await?,
    };
    let open = connection.insert(open);
    open.send(request.as_bytes()).await?;
    let frame = open.receive().await?.ok_or(io::ErrorKind::ConnectionReset)?;
    status(open.head(&frame))
}

/// Fails if a message was refused before there was any pressure: the figures under pressure would then mean nothing.
pub fn check_calm(volley: &Volley) -> Result<(), Failure> {
    match volley.refused.first_key_value() {
        Some((reason, count)) => Err(format!("{count} messages were refused before the pressure: {reason}").into()),
        None => Ok(()),
    }
}

/// Runs `work`, and runs `sample` at this interval until `work` ends.
pub async fn while_sampling<T>(every: Duration, work: impl Future<Output = T>, mut sample: impl AsyncFnMut()) -> T {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(every) => sample().await,
        }
    }
}
