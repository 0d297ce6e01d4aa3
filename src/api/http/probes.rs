//! Whether this process lives, whether it may be sent requests, and what it has counted: /livez, /readyz and /metrics.
//! No token, and not in the API document. The first two also stand on the API's own listener. Called by app and routes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use poem::endpoint::make;
use poem::{Endpoint, EndpointExt, IntoEndpoint, Response, Route, get};
use tokio::sync::Mutex;

use super::requests::Requests;
use crate::api::wire::error::response;
use crate::api::wire::response::JSON;
use crate::clock::Clock;
use crate::error::{Error, Result};
use crate::store::queue::{DEPTH_MOST, Depth, find_depth, find_oldest_snapshot, find_parked_depth};
use crate::store::{Backend, Store, is_prepared};
use crate::telemetry::metrics::VERSION;
use crate::telemetry::series::Page;

/// A database that takes longer than this for next to nothing is not there.
const DEADLINE: Duration = Duration::from_secs(2);
/// A process without a beat for so long cannot write, or its database is away. Others take it for dead before that.
const BEAT_IS_MISSED: Duration = Duration::from_secs(5);
/// The database is looked at no more often, however many ask.
const LOOK: Duration = Duration::from_secs(3);
/// If a look takes long, the next one waits so many times as long: it reads what others have left behind.
const REST: u32 = 20;
/// Further apart than this, the two clocks cannot both be believed.
const CLOCKS_APART: Duration = Duration::from_secs(5);

const STARTING: u8 = 0;
const SERVING: u8 = 1;
const STOPPING: u8 = 2;

/// What is known of this process from its start to its end.
pub struct Probes {
    store: Store,
    phase: AtomicU8,
    pub(crate) requests: Requests,
    depth: Watched<Depth>,
    parked: Watched<i64>,
    /// The oldest transaction that is still held, and since when this process has seen it.
    held: Watched<(Option<String>, Duration)>,
    /// Whether there was a schema, as of a look that began then.
    prepared: Arc<Mutex<Option<(Instant, bool)>>>,
}

/// Something that was seen in the database.
struct Watched<T>(Mutex<Option<Sight<T>>>);

struct Sight<T> {
    /// `None`: the database did not tell.
    seen: Option<T>,
    /// When to look again.
    until: Duration,
}

impl<T> Default for Watched<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T: Clone> Watched<T> {
    /// What was seen at the last look; looks again, with what was seen before, if that is too long ago.
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
    /// Of a process that does not serve yet.
    pub fn new(store: &Store) -> Arc<Self> {
        Arc::new(Self {
            store: store.clone(),
            phase: AtomicU8::new(STARTING),
            requests: Requests::default(),
            depth: Watched::default(),
            parked: Watched::default(),
            held: Watched::default(),
            prepared: Arc::default(),
        })
    }

    /// From now on requests are welcome.
    pub fn serving(&self) {
        self.phase.store(SERVING, Ordering::Relaxed);
    }

    /// From now on they should go elsewhere.
    pub fn stopping(&self) {
        self.phase.store(STOPPING, Ordering::Relaxed);
    }

    /// # Errors
    /// `Unavailable` or `Database`, with the reason.
    async fn ready(&self) -> Result<()> {
        match self.phase.load(Ordering::Relaxed) {
            STARTING => {
                return Err(Error::unavailable(
                    "it is starting: the database is not ready for it yet",
                ));
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
        // Reading would not tell whether it can write: sessions of a server that was replaced go on reading.
        let beats = self.store.beat_age().is_some_and(|age| age < BEAT_IS_MISSED);
        if self.store.backend() == Backend::Postgres && !beats {
            return Err(Error::unavailable("it cannot write to the database just now"));
        }
        match tokio::time::timeout(DEADLINE, self.is_prepared()).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Error::unavailable("the database has no schema of this program")),
            Ok(Err(err)) => Err(Error::unavailable("the database does not do what is asked").because(err)),
            Err(_) => Err(Error::unavailable("the database does not answer")),
        }
    }

    /// Looks once for all probes that come meanwhile, in a task of its own: however many come and hang up, together they take
    /// one of the queue's connections.
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

    /// How long the oldest snapshot has been held, as far as this process has seen.
    async fn snapshot_age(&self) -> Option<Duration> {
        let clock = self.store.clock();
        let look = async |before: Option<(Option<String>, Duration)>| {
            let oldest = find_oldest_snapshot(&self.store.for_api()).await?;
            let since = match before {
                Some((held, since)) if oldest.is_some() && held == oldest => since,
                _ => clock.monotonic(),
            };
            Ok((oldest, since))
        };
        let (oldest, since) = self.held.get(clock, look).await?;
        oldest.map(|_| clock.monotonic().saturating_sub(since))
    }

    async fn page(&self) -> String {
        let mut page = Page::default();
        page.head("postrider_build_info", "gauge", "The program that runs; always 1.");
        page.sample("postrider_build_info", &[("version", VERSION)], 1.0);
        self.store.metrics().write(&mut page);
        self.store.budget().write(&mut page);
        self.write_database(&mut page);
        // Over the API's connections: what is given up here ends soon.
        let (clock, api) = (self.store.clock(), self.store.for_api());
        if let Some(depth) = self.depth.get(clock, |_| async { find_depth(&api).await }).await {
            self.write_depth(&mut page, &depth);
        }
        if let Some(parked) = self
            .parked
            .get(clock, |_| async { find_parked_depth(&api).await })
            .await
        {
            let help = format!("Deliveries that wait for their endpoint to have room, {DEPTH_MOST} at most.");
            page.gauge("postrider_deliveries_parked", &help, parked as f64);
        }
        page.gauge(
            "postrider_oldest_snapshot_seconds",
            "How long this process has seen one snapshot held, for which Postgres keeps what is deleted; all processes see the same.",
            self.snapshot_age().await.unwrap_or_default().as_secs_f64(),
        );
        self.requests.write(&mut page);
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
        let help = format!("Due deliveries that nobody sends yet, {DEPTH_MOST} at most, by lane.");
        page.head(name, "gauge", &help);
        page.sample(name, &[("lane", "first")], depth.first as f64);
        page.sample(name, &[("lane", "again")], depth.again as f64);
    }
}

/// Everything that is served on the metrics listener.
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

/// Adds the two that the API's listener has too.
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
    route.at("/livez", get(live)).at("/readyz", get(ready))
}

fn well() -> Response {
    Response::builder().content_type(JSON).body(r#"{"status":"ok"}"#)
}
