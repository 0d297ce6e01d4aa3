//! Builds the parts from the settings; start order and stop order. Must not do any part's work.
//! Called by cli: `serve` runs everything, the other functions open what an operator's command needs.

mod acceptor;
mod welcome;

use std::path::{Path, PathBuf};
use std::time::Duration;

use poem::endpoint::make_sync;
use poem::http::StatusCode;
use poem::{EndpointExt, Route, Server};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::acceptor::Connections;
use crate::clock::Clock;
use crate::config::{
    DatabaseSettings, KeySettings, MigrateSettings, Secret, ServeSettings, SqliteSync, read_secret, write_missing,
};
use crate::dispatcher::{Dispatcher, LEASE_MARGIN, Settings};
use crate::domain::secret::Encryptor;
use crate::error::{Error, Kind, Result};
use crate::service;
use crate::store::handoff::{Caps, Handoff};
use crate::store::intake::{Intake, Limits};
use crate::store::{Backend, ConnectOptions, Hold, Store, schema, sqlite_path};

/// The organization that POSTRIDER_ADMIN_TOKEN and a first start's token act for.
pub const DEFAULT_ORGANIZATION: &str = "default";
/// How long an operator's command waits for the database to come up.
pub const COMMAND_PATIENCE: Duration = Duration::from_secs(30);
/// A connection on which nothing happens is closed after this.
const IDLE_CONNECTION: Duration = Duration::from_secs(75);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT, then ends what is in flight within the grace period.
///
/// # Errors
/// `Config` when a setting, the key or the schema does not allow it; nothing was served then.
pub async fn serve(settings: &ServeSettings) -> Result<()> {
    let stop = stop_signal()?;
    let options = connect_options(&settings.database)?;
    let admin_token = settings.admin_token()?;
    let store = Store::open(&options, Clock::system()).await?;
    tokio::select! {
        ready = prepare(settings, &options, &store) => ready?,
        () = stop_signal()? => return Ok(()),
    }
    let listener = TcpListener::bind(settings.listen.listen).await.map_err(|err| {
        Error::config(format!(
            "cannot listen on {} (POSTRIDER_LISTEN)",
            settings.listen.listen
        ))
        .because(err)
    })?;
    let address = listener.local_addr().unwrap_or(settings.listen.listen);
    let organization = service::organization::get_or_create(&store, DEFAULT_ORGANIZATION).await?;
    tracing::info!(%address, database = store.backend().name(), "serving");
    welcome::greet(
        &store,
        &organization,
        address,
        admin_token.is_some(),
        &settings.allow_targets,
    )
    .await?;

    let (handoff, fast) = Handoff::new(store.clone(), settings.caps());
    let mut dispatcher = Dispatcher::new(&store, &handoff, fast, settings.dispatch())?;
    dispatcher.start().await?;
    let intakes = TaskTracker::new();
    let intake = Intake::start(&store, &handoff, settings.intake(), &intakes);
    let stop_dispatcher = CancellationToken::new();
    let dispatching = tokio::spawn(dispatcher.run(stop_dispatcher.clone(), settings.shutdown_grace));

    let connections =
        Connections::on(listener).map_err(|err| Error::internal("the socket has no address").because(err))?;
    let routes = Route::new().at("/api/v1/health", make_sync(|_| StatusCode::OK)).boxed();
    Server::new_with_acceptor(connections)
        .idle_timeout(IDLE_CONNECTION)
        .run_with_graceful_shutdown(routes, stop, Some(settings.shutdown_grace))
        .await
        .map_err(|err| Error::internal("the server stopped").because(err))?;
    // In the order data flows: nothing new, then what is accepted, then what is in flight.
    drop(intake);
    intakes.close();
    intakes.wait().await;
    stop_dispatcher.cancel();
    dispatching
        .await
        .map_err(|err| Error::internal("the dispatcher ended badly").because(err))?;
    store.close().await;
    tracing::info!("stopped");
    Ok(())
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
            targets: self.allow_targets.clone(),
        }
    }
}

/// What must be so before anything is served: the database answers, its schema fits, its key is the right one.
async fn prepare(settings: &ServeSettings, options: &ConnectOptions, store: &Store) -> Result<()> {
    reach(store, None).await?;
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
    unlock(store, options, &settings.key).await
}

/// Waits until the database answers, at most for `patience`.
///
/// # Errors
/// `Config` when waiting will not help, `Database` when `patience` is over.
pub async fn reach(store: &Store, patience: Option<Duration>) -> Result<()> {
    let clock = store.clock();
    let begun = clock.monotonic();
    let mut pause = FIRST_PAUSE;
    loop {
        match store.reach().await {
            Err(err) if err.kind == Kind::Database => {
                if patience.is_some_and(|patience| clock.monotonic() - begun >= patience) {
                    return Err(err);
                }
                tracing::warn!(%err, "waiting for the database");
            }
            settled => return settled,
        }
        clock.sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// The database for an operator's command, beside a `serve` that may be running.
///
/// # Errors
/// `Config` when there is none, or its schema does not fit this program.
pub async fn open_beside(settings: &DatabaseSettings) -> Result<Store> {
    let store = Store::open_as(Hold::Beside, &connect_options(settings)?, Clock::system()).await?;
    reach(&store, Some(COMMAND_PATIENCE)).await?;
    schema::check(&store).await?;
    Ok(store)
}

/// # Errors
/// `Config` when a setting is given twice, or its file cannot be read.
pub fn connect_options(settings: &DatabaseSettings) -> Result<ConnectOptions> {
    Ok(ConnectOptions {
        url: settings.url()?.expose().to_owned(),
        password: settings.password()?.map(|password| password.expose().to_owned()),
        max_connections: settings.database_connections,
        full_sync: settings.sqlite_sync == SqliteSync::Full,
    })
}

/// The same for what changes the schema, which may have a URL of its own.
///
/// # Errors
/// `Config` as for [`connect_options`].
pub fn migrate_options(database: &DatabaseSettings, migrations: &MigrateSettings) -> Result<ConnectOptions> {
    let options = connect_options(database)?;
    Ok(match migrations.url()? {
        Some(url) => ConnectOptions {
            url: url.expose().to_owned(),
            ..options
        },
        None => options,
    })
}

/// Takes the encryption key into use: the one that is given, or the one kept beside an SQLite file.
///
/// # Errors
/// `Config` when there is none, or it is not the one that the database was written with.
pub async fn unlock(store: &Store, options: &ConnectOptions, settings: &KeySettings) -> Result<()> {
    let key = match (settings.encryption_key()?, sqlite_path(&options.url)) {
        (Some(key), _) => key,
        (None, Some(path)) => key_beside(store, &path).await?,
        (None, None) => {
            return Err(Error::config(
                "POSTRIDER_ENCRYPTION_KEY (or POSTRIDER_ENCRYPTION_KEY_FILE) must be set: on Postgres no key is made. \
                 Any text of 32 or more characters will do; keep it with your backups",
            ));
        }
    };
    store.unlock(Encryptor::new(key.expose()).map_err(Error::config)?).await
}

async fn key_beside(store: &Store, database: &Path) -> Result<Secret> {
    let mut name = database.as_os_str().to_owned();
    name.push(".key");
    let path = PathBuf::from(name);
    if !path.exists() {
        if store.is_keyed().await? {
            return Err(Error::config(format!(
                "the key file {} is gone, and the database was written with that key: bring it back, or set \
                 POSTRIDER_ENCRYPTION_KEY to what it held",
                path.display()
            )));
        }
        let made = write_missing(&path, 0o600)
            .map_err(|err| Error::config(format!("cannot write the key file {}", path.display())).because(err))?;
        if made {
            tracing::info!(path = %path.display(), "made an encryption key: keep it with your backups");
        }
    }
    read_secret("POSTRIDER_ENCRYPTION_KEY", &path)
}

/// Ends with the first SIGTERM or SIGINT from now on.
fn stop_signal() -> Result<impl Future<Output = ()> + use<>> {
    let cannot_listen = |err| Error::internal("cannot listen for signals").because(err);
    let mut terminate = signal(SignalKind::terminate()).map_err(cannot_listen)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(cannot_listen)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: ending what is in flight");
    })
}
