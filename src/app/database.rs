//! Opens the database by the settings: which one, when it answers, with which key. Must not query or migrate it.
//! Called by app and, for an operator's command, by cli.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Clock;
use crate::config::{DatabaseSettings, KeySettings, MigrateSettings, Secret, SqliteSync, read_secret, write_missing};
use crate::domain::secret::Encryptor;
use crate::error::{Error, Kind, Result};
use crate::store::{ConnectOptions, Hold, Store, schema, sqlite_path};

/// How long an operator's command waits for the database to come up.
pub const COMMAND_PATIENCE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

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

/// Where an SQLite database's encryption key is kept when no setting gives it.
pub fn key_file(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".key");
    PathBuf::from(name)
}

async fn key_beside(store: &Store, database: &Path) -> Result<Secret> {
    let path = key_file(database);
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
