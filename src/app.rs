//! Builds the parts of a process from the settings, and fixes the order in which they start and stop.
//!
//! `serve` opens the database, waits until it answers, checks or migrates its schema and takes the encryption key into
//! use. Only then it starts the dispatcher, the intake and the API. On SIGTERM or SIGINT the parts end in the opposite
//! order. If a loop of the process ends unexpectedly, `serve` returns at once and the process ends.
//!
//! The other functions open the database for an operator's command. Must not do any part's work.

mod database;
mod probes;
mod welcome;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

pub use self::database::{
    COMMAND_PATIENCE, connect_options, drop_former_key, key_file, migrate_options, open_beside, reach, replace_keys,
    unlock, unlock_to_rotate,
};
pub use self::welcome::url_of;
use crate::api::http::listener::{self, Limits as ConnectionLimits};
use crate::api::{self, AdminToken, ApiState, Probes, Trial};
use crate::clock::Clock;
use crate::config::ServeSettings;
use crate::dispatcher::{Dispatcher, LEASE_MARGIN, Settings};
use crate::domain::token;
use crate::error::{Error, Result};
use crate::loops::Loops;
use crate::service;
use crate::slots::{Caps, Slots};
use crate::store::database::schema;
use crate::store::intake::{Intake, Limits, fast_path};
use crate::store::{Backend, ConnectOptions, Store, poll};
use crate::telemetry::metrics::VERSION;

/// The organization of POSTRIDER_ADMIN_TOKEN and of the token that a first start prints.
pub const DEFAULT_ORGANIZATION: &str = "default";
/// How long the intake's last commit, and then the closing of the database, may take once all connections have ended.
const LAST_WRITES: Duration = Duration::from_secs(6);
/// The limits of the API's connections.
const CONNECTIONS: ConnectionLimits = ConnectionLimits {
    // More than the messages that may wait to be stored. Each connection takes up to 17 kB for as long as its client
    // likes: 85 MB in all.
    connections: 5_000,
    // Longer than the deadlines of a body and of the database together, so that those give the response.
    request: Duration::from_secs(60),
    // A page of 4 MiB at 70 kB/s.
    response: Duration::from_secs(60),
    progress: Duration::from_secs(30),
    silence: Duration::from_secs(75),
};
/// Open files that the process asks the system for: connections of callers, which get at most half, of deliveries and
/// of the database.
const MOST_OPEN_FILES: u64 = 20_000;

/// Serves until SIGTERM or SIGINT, then gives requests and deliveries in flight the grace period to end.
///
/// # Errors
/// `Config` if a setting, the key or the schema is wrong; then nothing was served. `Internal` if a loop of the process
/// has ended; then everything in flight is abandoned.
pub async fn serve(settings: &ServeSettings) -> Result<()> {
    let loops = Loops::default();
    tokio::select! {
        served = serve_with(settings, &loops) => served,
        failure = loops.failed() => Err(failure),
    }
}

async fn serve_with(settings: &ServeSettings, loops: &Loops) -> Result<()> {
    let limits = connection_limits();
    let stop = stop_signal()?;
    ignore_hangups()?;
    let options = connect_options(&settings.database)?;
    let admin_token = settings.admin_token()?;
    // A wrong URL for migrations is refused at every start, not only at the first one that migrates.
    settings.migrations.url()?;
    let store = Store::open(&options, Clock::system()).await?;
    let seen = Probes::new(&store);
    if let Some(wanted) = settings.metrics_listen {
        probes::listen(wanted, &seen, loops).await?;
    }
    let database = tokio::select! {
        ready = prepare(settings, &options, &store) => ready?,
        () = stop_signal()? => return Ok(()),
    };
    let wanted = settings.listen.listen;
    let listener = TcpListener::bind(wanted)
        .await
        .map_err(|err| Error::config(format!("cannot listen on {wanted} (POSTRIDER_LISTEN)")).because(err))?;
    let address = listener.local_addr().unwrap_or(wanted);
    let organization = service::organization::get_or_create(&store, &welcome::START, DEFAULT_ORGANIZATION).await?;
    let has_admin_token = admin_token.is_some();
    let targets = &settings.targets();
    let public_url = settings
        .public
        .public_url
        .clone()
        .unwrap_or_else(|| welcome::url_of(address));
    let allowed_targets = targets.to_string();
    tracing::info!(%address, version = VERSION, database, public_url, allowed_targets, "serving");
    welcome::greet(&store, &organization, &public_url, has_admin_token, targets).await?;

    let admin = admin_token.map(|token| AdminToken {
        hashes: token.iter().map(|token| token::hash(token.expose())).collect(),
        org_id: organization.id,
    });
    let entrance = Entrance {
        listener,
        limits,
        public_url,
    };
    run(settings, &seen, &store, entrance, admin, loops, stop).await?;
    if tokio::time::timeout(LAST_WRITES, store.close()).await.is_err() {
        tracing::warn!("the database did not answer; its connections are dropped");
    }
    tracing::info!("stopped");
    Ok(())
}

/// The bound listener of the API, its limits, and the URL at which browsers reach it.
struct Entrance {
    listener: TcpListener,
    limits: ConnectionLimits,
    public_url: String,
}

/// Starts the dispatcher, then the intake, then the API; when `stop` ends, stops them in the opposite order.
///
/// No part ever runs without the part that takes its output. Returns when all of them have ended.
async fn run(
    settings: &ServeSettings,
    seen: &Arc<Probes>,
    store: &Store,
    entrance: Entrance,
    admin: Option<AdminToken>,
    loops: &Loops,
    stop: impl Future<Output = ()>,
) -> Result<()> {
    let caps = settings.caps();
    let slots = Slots::new(
        caps,
        store.clock().clone(),
        store.metrics().clone(),
        store.due().clone(),
    );
    let (leases, fast) = fast_path(&caps);
    let mut dispatcher = Dispatcher::new(store, &slots, fast, settings.dispatch())?;
    dispatcher.start().await?;
    let (stop_dispatcher, grace_over) = (CancellationToken::new(), CancellationToken::new());
    let dispatching = dispatcher.run(stop_dispatcher.clone(), grace_over.clone(), loops.clone());
    let dispatching = loops.spawn("dispatcher", &stop_dispatcher, dispatching);
    let intakes = loops.group();
    let intake = Intake::start(store, &slots, &leases, settings.intake(), &intakes);

    let routes = api::routes(ApiState {
        store: store.clone(),
        probes: seen.clone(),
        intake,
        targets: settings.targets(),
        trial: Trial::allowed_by(&settings.targets()),
        public_url: entrance.public_url,
        portal_ancestors: settings.portal_ancestors.clone(),
        admin,
        body_deadline: ApiState::BODY_DEADLINE,
        most_endpoints: settings.endpoints_per_application,
        svix_headers: settings.svix_headers,
    });
    let stop_uses = CancellationToken::new();
    let uses = service::token::record_uses_until(store.for_background(), stop_uses.clone());
    let uses = loops.spawn("record of tokens' uses", &stop_uses, uses);
    let watch = poll::watch(store.for_queue(), stop_uses.clone());
    loops.spawn("watch for polls", &stop_uses, watch);
    let grace = settings.shutdown_grace;
    seen.serving();
    let stop = async {
        stop.await;
        seen.stopping();
        store.waits().close();
    };
    let stop = begin_stop(stop, grace, grace_over);
    let serving = listener::serve(entrance.listener, entrance.limits, routes, stop, grace);
    let lost = async {
        let lost = store.watch_file().await;
        // `select!` drops the API, which feeds the intake, before it handles what has ended.
        loops.abandon();
        lost
    };
    tokio::select! {
        served = serving => served.map_err(|err| Error::internal("the socket has no address").because(err))?,
        // The SQLite file is gone: nothing can be stored any more, so there is nothing to end in order.
        lost = lost => return lost,
    }
    if tokio::time::timeout(LAST_WRITES, intakes.wait()).await.is_err() {
        tracing::warn!("a request was cut off while it was being stored");
    }
    stop_uses.cancel();
    stop_dispatcher.cancel();
    let ended = dispatching.await;
    if tokio::time::timeout(LAST_WRITES, uses).await.is_err() {
        tracing::warn!("the last uses of tokens were not recorded: the database did not answer");
    }
    tokio::time::sleep(settings.shutdown_linger).await;
    ended
        .map(drop)
        .map_err(|err| Error::internal("the dispatcher failed").because(err))
}

impl ServeSettings {
    fn caps(&self) -> Caps {
        Caps {
            process: self.concurrency as usize,
            endpoint: self.endpoint_concurrency as usize,
        }
    }

    fn intake(&self) -> Limits {
        Limits {
            members: self.intake_batch.into(),
            lease: self.attempt_timeout + LEASE_MARGIN,
        }
    }

    fn dispatch(&self) -> Settings {
        Settings {
            attempt_timeout: self.attempt_timeout,
            schedule: self.retry_schedule.clone(),
            targets: self.targets(),
            history: self.history_retention,
            audit: self.audit_retention,
            svix_headers: self.svix_headers,
            disable_after: (!self.disable_after.is_zero()).then_some(self.disable_after),
            name_server: None,
        }
    }
}

/// Waits until the database answers, migrates it if the settings say so, checks its schema and takes the encryption key
/// into use. Returns the database's kind and version, for the log.
async fn prepare(settings: &ServeSettings, options: &ConnectOptions, store: &Store) -> Result<String> {
    let database = reach(store, None).await?;
    match store.backend() {
        Backend::Sqlite => {
            schema::up(store).await?;
        }
        Backend::Postgres if settings.migrate => {
            let direct = migrate_options(&settings.database, &settings.migrations)?;
            let direct = Store::open(&direct, store.clock().clone()).await?;
            reach(&direct, None).await?;
            schema::up(&direct).await?;
            direct.close().await;
        }
        Backend::Postgres => {}
    }
    schema::check(store).await?;
    unlock(store, options, &settings.key).await?;
    Ok(database)
}

/// Raises the process's limit of open files, and returns the API's limits with no more connections than half of it.
fn connection_limits() -> ConnectionLimits {
    // Many systems give a process 1,024 open files. Callers and deliveries together may need more.
    let files = rlimit::increase_nofile_limit(MOST_OPEN_FILES).unwrap_or_else(|err| {
        tracing::warn!(%err, "the limit of open files could not be raised");
        MOST_OPEN_FILES
    });
    let half = usize::try_from(files / 2).unwrap_or(usize::MAX);
    ConnectionLimits {
        connections: CONNECTIONS.connections.min(half),
        ..CONNECTIONS
    }
}

/// Waits until `stop` ends, and then starts the grace period: one period for requests and deliveries together, at whose
/// end `grace_over` is cancelled.
async fn begin_stop(stop: impl Future<Output = ()>, grace: Duration, grace_over: CancellationToken) {
    stop.await;
    tokio::spawn(async move {
        tokio::time::sleep(grace).await;
        grace_over.cancel();
    });
}

/// Makes the process ignore SIGHUP from now on: a terminal that closes, or a log that is rotated, must not end
/// deliveries. If SIGHUP counted as SIGTERM, it would also end a process that was started with `nohup`.
fn ignore_hangups() -> Result<()> {
    listen_for(SignalKind::hangup()).map(drop)
}

fn listen_for(kind: SignalKind) -> Result<Signal> {
    signal(kind).map_err(|err| Error::internal("cannot listen for signals").because(err))
}

/// Returns a future that ends with the first SIGTERM or SIGINT from now on.
fn stop_signal() -> Result<impl Future<Output = ()> + use<>> {
    let mut terminate = listen_for(SignalKind::terminate())?;
    let mut interrupt = listen_for(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: ending what is in flight");
    })
}
