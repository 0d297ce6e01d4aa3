//! Opens the database by the settings: which one, when it answers, with which key. Must not query or migrate it.
//! Called by app and, for an operator's command, by cli.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::Clock;
use crate::config::{
    DatabaseSettings, KeySettings, MigrateSettings, Rotating, Secret, SqliteSync, read_encryption_key, replace,
    write_missing,
};
use crate::domain::encryption_keys::EncryptionKeys;
use crate::domain::secret::Encryptor;
use crate::error::{Error, Kind, Result};
use crate::store::database::schema;
use crate::store::{ANSWER_DEADLINE, ConnectOptions, Hold, Store, sqlite_path};

/// How long an operator's command waits for the database to come up.
pub const COMMAND_PATIENCE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Waits until the database answers, at most for `patience`. Returns which database it is, with its version.
///
/// # Errors
/// `Config` when waiting will not help, `Database` when `patience` is over.
pub async fn reach(store: &Store, patience: Option<Duration>) -> Result<String> {
    let clock = store.clock();
    let begun = clock.monotonic();
    let mut pause = FIRST_PAUSE;
    let mut waits = false;
    loop {
        let waited = clock.monotonic() - begun;
        match store.reach().await {
            Err(err) if err.kind == Kind::Database => {
                if patience.is_some_and(|patience| waited >= patience) {
                    return Err(err);
                }
                if waits {
                    tracing::debug!(%err, "still waiting for the database");
                } else {
                    tracing::warn!(%err, "waiting for the database");
                }
                waits = true;
            }
            Ok(database) => {
                if waits {
                    tracing::info!(seconds = waited.as_secs_f64(), "the database answers");
                }
                return Ok(database);
            }
            Err(err) => return Err(err),
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
        answer_deadline: ANSWER_DEADLINE,
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

/// Takes the encryption key into use, or both: what is given, or what is kept beside an SQLite file.
///
/// # Errors
/// `Config` when there is none, or it is not the one that the database was written with.
pub async fn unlock(store: &Store, options: &ConnectOptions, settings: &KeySettings) -> Result<()> {
    let (keys, _) = find_keys(store, options, settings).await?;
    store.unlock(encryption_keys(&keys)?).await
}

/// Takes both keys into use to replace one by the other. Where the key is kept beside an SQLite file a new one is made
/// and put above it; to end the rotation, give what this answers to [`drop_former_key`].
///
/// # Errors
/// `Config` as for [`unlock`].
pub async fn unlock_to_rotate(
    store: &Store,
    options: &ConnectOptions,
    settings: &KeySettings,
) -> Result<Option<PathBuf>> {
    let (mut keys, file) = find_keys(store, options, settings).await?;
    if let Some(path) = file.as_ref().filter(|_| keys.former.is_none()) {
        store.prove(&encryption_keys(&keys)?).await?;
        keys = keys.renewed();
        replace_keys(path, &keys)?;
    }
    store.unlock(encryption_keys(&keys)?).await?;
    Ok(file)
}

/// Leaves the newest key in the file alone.
///
/// # Errors
/// `Config` when it cannot be read or written.
pub fn drop_former_key(path: &Path) -> Result<()> {
    let keys = Rotating {
        former: None,
        ..read_encryption_key(path)?
    };
    replace_keys(path, &keys)
}

/// Puts `keys` in the place of what the file at `path` holds.
///
/// # Errors
/// `Config` when it cannot be written.
pub fn replace_keys(path: &Path, keys: &Rotating) -> Result<()> {
    replace(path, &keys.to_lines())
        .map_err(|err| Error::config(format!("cannot write the key file {}", path.display())).because(err))
}

fn encryption_keys(keys: &Rotating) -> Result<EncryptionKeys> {
    let key = |text: &Secret| Encryptor::new(text.expose()).map_err(Error::config);
    Ok(EncryptionKeys::new(
        key(&keys.newest)?,
        keys.former.as_ref().map(key).transpose()?,
    ))
}

/// Where an SQLite database's encryption key is kept when no setting gives it.
pub fn key_file(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".key");
    PathBuf::from(name)
}

/// The keys, and the file beside the database in which they are kept.
async fn find_keys(
    store: &Store,
    options: &ConnectOptions,
    settings: &KeySettings,
) -> Result<(Rotating, Option<PathBuf>)> {
    match (settings.encryption_key()?, sqlite_path(&options.url)) {
        (Some(keys), _) => Ok((keys, None)),
        (None, Some(database)) => {
            let path = key_file(&database);
            Ok((keys_beside(store, &path).await?, Some(path)))
        }
        (None, None) => Err(Error::config(
            "POSTRIDER_ENCRYPTION_KEY (or POSTRIDER_ENCRYPTION_KEY_FILE) must be set: on Postgres no key is made. \
             Any text of 32 or more characters will do; keep it with your backups",
        )),
    }
}

async fn keys_beside(store: &Store, path: &Path) -> Result<Rotating> {
    if !path.exists() {
        if store.is_keyed().await? {
            return Err(Error::config(format!(
                "the key file {} is gone, and the database was written with that key: bring it back, or set \
                 POSTRIDER_ENCRYPTION_KEY to what it held",
                path.display()
            )));
        }
        let made = write_missing(path, 0o600)
            .map_err(|err| Error::config(format!("cannot write the key file {}", path.display())).because(err))?;
        if made {
            tracing::info!(path = %path.display(), "made an encryption key: keep it with your backups");
        }
    }
    read_encryption_key(path)
}
