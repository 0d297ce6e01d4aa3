//! Serves /livez, /readyz and /metrics: whether this process lives, whether it may be sent requests, what it has
//! counted.
//!
//! All three are on the metrics listener, and the first two on the API's listener as well. They ask for no token and
//! are not in the API document. The figures of /metrics that come from the database are read at most every three
//! seconds, however often the page is asked for.
//!
//! Must not show anything of a customer: the metrics listener asks for no token.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use poem::endpoint::make;
use poem::{Endpoint, EndpointExt, IntoEndpoint, Response, Route, get};
use tokio::sync::Mutex;

use super::requests::Requests;
use crate::api::wire::error::response;
use crate::api::wire::values::JSON;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::store::poll::find_oldest_writer;
use crate::store::queue::{DEPTH_MOST, Depth, find_depth, find_oldest_snapshot, find_parked_depth};
use crate::store::{Backend, Store, is_prepared};
use crate::telemetry::metrics::VERSION;
use crate::telemetry::series::Page;

/// How long the database may take for a probe's query, which costs it next to nothing, before it counts as away.
const DEADLINE: Duration = Duration::from_secs(2);
/// The age of the last heartbeat from which the process counts as not ready: it cannot write, or its database is away.
/// Other processes take it for dead before that.
const BEAT_IS_MISSED: Duration = Duration::from_secs(5);
/// The least time between two reads of a figure from the database, however often /metrics is asked for.
const LOOK: Duration = Duration::from_secs(3);
/// After a slow read the next one waits this many times as long as the read took. A read is slow if it passes deleted
/// rows that a held snapshot keeps.
const REST: u32 = 20;
/// How far this machine's clock and the database's may be apart before the process counts as not ready.
const CLOCKS_APART: Duration = Duration::from_secs(5);

const STARTING: u8 = 0;
const SERVING: u8 = 1;
const STOPPING: u8 = 2;

/// The state of this process from its start to its end, as far as probes and metrics show it.
pub struct Probes {
    store: Store,
    /// `STARTING`, `SERVING` or `STOPPING`. Written by the process's start and stop, read by /readyz.
    phase: AtomicU8,
    /// Counts of requests. Made once, by the routes, which know the paths.
    pub(crate) requests: OnceLock<Requests>,
    depth: Watched<Depth>,
    parked: Watched<i64>,
    /// The oldest transaction that a snapshot still holds, and since when this process has seen it held, by
    /// [`Clock::monotonic`]. The transaction is `None` if nothing is held.
    held: Watched<(Option<String>, Duration)>,
    /// The oldest transaction that may still write, and since when this process has seen it, in the same form.
    writer: Watched<(Option<String>, Duration)>,
    /// When the last check of the schema began, and whether the database had this program's schema. `None` before the
    /// first check, and if the last one failed. The lock is held for as long as a check takes.
    prepared: Arc<Mutex<Option<(Instant, bool)>>>,
}

/// A figure from the database that is read again only after a while. The lock is held while it is read, so that
/// requests that come meanwhile share one read.
struct Watched<T>(Mutex<Option<Sight<T>>>);

struct Sight<T> {
    /// The figure; `None` if it could not be read in time.
    seen: Option<T>,
    /// When to read it again, by [`Clock::monotonic`].
    until: Duration,
}

impl<T> Default for Watched<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Watched<T> {
    /// Returns the figure, read by `look` if the last read is too long ago. `look` is given the figure of the last
    /// read. `None` means that the last read failed or took longer than [`DEADLINE`].
    async fn get<L>(&self, clock: &Clock, look: impl FnOnce(Option<T>) -> L) -> Option<T>
    where
        L: Future<Output = Result<T>>,
    {
        let mut sight = self.0.lock().await;
        let now = clock.monotonic();
        let before = match &*sight {
            Some(sight) if now < sight.until => return sight.seen.clone(),
            Some(sight) => sight.seen.clone(),
            None => None,
        };
        let seen = tokio::time::timeout(DEADLINE, look(before)).await;
        let seen = seen.ok().and_then(Result::ok);
        let took = clock.monotonic().saturating_sub(now);
        *sight = Some(Sight {
            seen: seen.clone(),
            until: now + LOOK.max(took * REST),
        });
        seen
    }
}

impl Probes {
    /// Makes the probes of a process that does not serve yet.
    pub fn new(store: &Store) -> Arc<Self> {
        Arc::new(Self {
            store: store.clone(),
            phase: AtomicU8::new(STARTING),
            requests: OnceLock::new(),
            depth: Watched::default(),
            parked: Watched::default(),
            held: Watched::default(),
            writer: Watched::default(),
            prepared: Arc::default(),
        })
    }

    /// Marks the process as ready for requests.
    pub fn serving(&self) {
        self.phase.store(SERVING, Ordering::Relaxed);
    }

    /// Marks the process as stopping: requests should go to other processes from now on.
    pub fn stopping(&self) {
        self.phase.store(STOPPING, Ordering::Relaxed);
    }

    /// Returns `Ok` if this process may be sent requests.
    ///
    /// # Errors
    /// `Unavailable`, with the reason.
    async fn ready(&self) -> Result<()> {
        match self.phase.load(Ordering::Relaxed) {
            STARTING => {
                return Err(Error::unavailable("it is starting: the database is not ready yet"));
            }
            STOPPING => return Err(Error::unavailable("it is stopping")),
            _ => {}
        }
        self.store.check_file()?;
        let apart = Duration::from_micros(self.store.clock().offset().unsigned_abs());
        if apart > CLOCKS_APART {
            let message = format!(
                "this machine's clock and the database's are {} s apart",
                apart.as_secs()
            );
            return Err(Error::unavailable(message));
        }
        // Heartbeats show whether the process can write. A read would not: sessions with a server that has been
        // replaced can still read.
        let beats = self.store.beat_age().is_some_and(|age| age < BEAT_IS_MISSED);
        if self.store.backend() == Backend::Postgres && !beats {
            return Err(Error::unavailable("it cannot write to the database just now"));
        }
        match tokio::time::timeout(DEADLINE, self.is_prepared()).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Error::unavailable("the database does not have this program's schema")),
            Ok(Err(err)) => Err(Error::unavailable("the database failed the probe's query").because(err)),
            Err(_) => Err(Error::unavailable("the database does not answer")),
        }
    }

    /// Returns whether the database has this program's schema. All probes that have arrived when a check begins share
    /// it. A check runs in a task of its own, which holds the lock until it ends: however many probes come and hang up,
    /// together they take one of the queue's connections.
    async fn is_prepared(&self) -> Result<bool> {
        let asked_at = Instant::now();
        let mut seen = self.prepared.clone().lock_owned().await;
        if let Some((since, prepared)) = *seen
            && since >= asked_at
        {
            return Ok(prepared);
        }
        let store = self.store.for_queue();
        let look = tokio::spawn(async move {
            *seen = None;
            let began = Instant::now();
            let prepared = is_prepared(&store).await?;
            *seen = Some((began, prepared));
            Ok(prepared)
        });
        look.await
            .map_err(|err| Error::internal("a probe panicked").because(err))?
    }

    /// Returns how long the oldest snapshot has been held, as far as this process has seen. `None` means that none is
    /// held or that the database could not be asked.
    async fn snapshot_age(&self) -> Option<Duration> {
        let store = self.store.for_api();
        self.age(&self.held, async { find_oldest_snapshot(&store).await }).await
    }

    /// Returns how long the oldest transaction that may still write has been open, in the same way.
    async fn writer_age(&self) -> Option<Duration> {
        let store = self.store.for_api();
        self.age(&self.writer, async { find_oldest_writer(&store).await }).await
    }

    /// Returns for how long this process has seen the text that `find` finds, at intervals, unchanged.
    async fn age(
        &self,
        seen: &Watched<(Option<String>, Duration)>,
        find: impl Future<Output = Result<Option<String>>>,
    ) -> Option<Duration> {
        let clock = self.store.clock();
        let look = async |before: Option<(Option<String>, Duration)>| {
            let oldest = find.await?;
            let since = match before {
                Some((held, since)) if oldest.is_some() && held == oldest => since,
                _ => clock.monotonic(),
            };
            Ok((oldest, since))
        };
        let (oldest, since) = seen.get(clock, look).await?;
        oldest.map(|_| clock.monotonic().saturating_sub(since))
    }

    /// Returns the text of /metrics.
    async fn page(&self) -> String {
        let mut page = Page::default();
        page.head("postrider_build_info", "gauge", "The running version; always 1.");
        page.sample("postrider_build_info", &[("version", VERSION)], 1.0);
        self.store.metrics().write(&mut page);
        self.store.budget().write(&mut page);
        self.write_database(&mut page);
        // Over the API's connections: if a read is given up here, its statement ends there within 4 s.
        let (clock, api) = (self.store.clock(), self.store.for_api());
        if let Some(depth) = self.depth.get(clock, |_| async { find_depth(&api).await }).await {
            self.write_depth(&mut page, &depth);
        }
        if let Some(parked) = self
            .parked
            .get(clock, |_| async { find_parked_depth(&api).await })
            .await
        {
            let help = format!("Deliveries that wait until their endpoint may be sent more, {DEPTH_MOST} at most.");
            page.gauge("postrider_deliveries_parked", &help, parked as f64);
        }
        page.gauge(
            "postrider_oldest_snapshot_seconds",
            "How long this process has seen the oldest snapshot held, for which Postgres keeps deleted rows; all processes see the same.",
            self.snapshot_age().await.unwrap_or_default().as_secs_f64(),
        );
        page.gauge(
            "postrider_polls_waiting",
            "Polls that wait for messages.",
            self.store.waits().count() as f64,
        );
        page.gauge(
            "postrider_poll_delay_seconds",
            "How long this process has seen the same oldest transaction open in Postgres: polls show nothing that was stored since.",
            self.writer_age().await.unwrap_or_default().as_secs_f64(),
        );
        if let Some(requests) = self.requests.get() {
            requests.write(&mut page);
        }
        page.text()
    }

    fn write_database(&self, page: &mut Page) {
        let pools = self.store.connections();
        let name = "postrider_database_connections";
        let help = "Connections to the database by pool (api: requests, queue: deliveries, tokens and background work, \
                    beat: heartbeat, writer: SQLite's) and state.";
        page.head(name, "gauge", help);
        for connections in &pools {
            let labels = |state| [("pool", connections.pool), ("state", state)];
            page.sample(name, &labels("in_use"), connections.in_use as f64);
            page.sample(name, &labels("idle"), connections.idle as f64);
        }
        let name = "postrider_database_connections_max";
        page.head(name, "gauge", "Connections that a pool may have.");
        for connections in &pools {
            page.sample(name, &[("pool", connections.pool)], connections.most as f64);
        }
        page.gauge(
            "postrider_clock_offset_seconds",
            "How far the database's clock is ahead of this machine's.",
            self.store.clock().offset() as f64 / 1e6,
        );
    }

    fn write_depth(&self, page: &mut Page, depth: &Depth) {
        let now = self.store.clock().now();
        let age = depth.due_since.map_or(0, |since| now.0.saturating_sub(since.0).max(0));
        page.gauge(
            "postrider_queue_age_seconds",
            "How long the oldest due delivery has been due; all processes see the same queue.",
            age as f64 / 1e6,
        );
        let name = "postrider_deliveries_due";
        let help = format!("Due deliveries that no process has claimed yet, {DEPTH_MOST} at most, by lane.");
        page.head(name, "gauge", &help);
        page.sample(name, &[("lane", "first")], depth.first as f64);
        page.sample(name, &[("lane", "retry")], depth.retry as f64);
    }
}

/// Returns the routes of the metrics listener.
pub fn probe_routes(probes: &Arc<Probes>) -> impl Endpoint<Output = Response> + use<> {
    let metrics = probes.clone();
    let metrics = make(move |_| {
        let probes = metrics.clone();
        async move {
            Response::builder()
                .content_type(Page::MEDIA_TYPE)
                .body(probes.page().await)
        }
    });
    let routes = add(Route::new().at("/metrics", get(metrics)), probes);
    routes.into_endpoint().map_to_response()
}

/// The paths that the API's listener has too.
pub(crate) const PATHS: [&str; 2] = ["/livez", "/readyz"];

/// Adds /livez and /readyz, which the API's listener has too.
pub(crate) fn add(route: Route, probes: &Arc<Probes>) -> Route {
    let probes = probes.clone();
    let ready = make(move |_| {
        let probes = probes.clone();
        async move {
            match probes.ready().await {
                Ok(()) => well(),
                Err(err) => response(&err),
            }
        }
    });
    let live = make(|_| async { well() });
    let [live_path, ready_path] = PATHS;
    route.at(live_path, get(live)).at(ready_path, get(ready))
}

/// Returns the response of a probe that succeeds.
fn well() -> Response {
    Response::builder().content_type(JSON).body(r#"{"status":"ok"}"#)
}
