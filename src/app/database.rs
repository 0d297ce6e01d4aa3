//! Opens the database that the settings name, waits until it answers, and takes the encryption key into use.
//!
//! On Postgres the key must be given. On SQLite it may be a file beside the database instead, which is made at the
//! first start and never made again once the database is written with it. Must not query the database by SQL of its
//! own, and must not migrate it.

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
/// The pause between two tries doubles from the first to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Waits until the database answers, at most for `patience`; `None` means without a limit. Returns the database's kind
/// and version, for the log.
///
/// # Errors
/// `Config` if waiting cannot help, `Database` if `patience` is over.
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

/// Opens the database for an operator's command, beside a `serve` that may be running.
///
/// # Errors
/// `Config` if there is no database, or if its schema does not fit this program; `Database` if it does not answer
/// within [`COMMAND_PATIENCE`].
pub async fn open_beside(settings: &DatabaseSettings) -> Result<Store> {
    let store = Store::open_as(Hold::Beside, &connect_options(settings)?, Clock::system()).await?;
    reach(&store, Some(COMMAND_PATIENCE)).await?;
    schema::check(&store).await?;
    Ok(store)
}

/// Returns the options of the store from the settings.
///
/// # Errors
/// `Config` if a setting is given twice, if its file cannot be read, or if the URL is wrong.
pub fn connect_options(settings: &DatabaseSettings) -> Result<ConnectOptions> {
    Ok(ConnectOptions {
        url: settings.url()?.expose().to_owned(),
        password: settings.password()?.map(|password| password.expose().to_owned()),
        max_connections: settings.database_connections,
        full_sync: settings.sqlite_sync == SqliteSync::Full,
        answer_deadline: ANSWER_DEADLINE,
    })
}

/// Returns the options of a store that changes the schema, which may have a URL of its own.
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

/// Takes the encryption key into use, and the former one while it is rotated: those of the settings, or those of the
/// file beside an SQLite database.
///
/// # Errors
/// `Config` if there is no key, or if it is not the key that the database was written with.
pub async fn unlock(store: &Store, options: &ConnectOptions, settings: &KeySettings) -> Result<()> {
    let (keys, _) = find_keys(store, options, settings).await?;
    store.unlock(encryption_keys(&keys)?).await
}

/// Takes the new and the former key into use, so that the former one can be replaced.
///
/// If the key is kept in a file beside an SQLite database and is not being rotated yet, a new key is made and put above
/// it. Returns the path of that file, which the caller gives to [`drop_former_key`] to end the rotation; `None` means
/// that a setting gives the keys.
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

/// Removes the former key from the file at `path` and leaves the newest one.
///
/// # Errors
/// `Config` if the file cannot be read or written.
pub fn drop_former_key(path: &Path) -> Result<()> {
    let keys = Rotating {
        former: None,
        ..read_encryption_key(path)?
    };
    replace_keys(path, &keys)
}

/// Replaces the content of the file at `path` by `keys`.
///
/// # Errors
/// `Config` if the file cannot be written.
pub fn replace_keys(path: &Path, keys: &Rotating) -> Result<()> {
    replace(path, &keys.to_lines())
        .map_err(|err| Error::config(format!("cannot write the key file {}", path.display())).because(err))
}

/// Derives the keys that seal and open from the texts of the settings.
fn encryption_keys(keys: &Rotating) -> Result<EncryptionKeys> {
    let key = |text: &Secret| Encryptor::new(text.expose()).map_err(Error::config);
    Ok(EncryptionKeys::new(
        key(&keys.newest)?,
        keys.former.as_ref().map(key).transpose()?,
    ))
}

/// Returns the path at which an SQLite database's encryption key is kept if no setting gives one.
pub fn key_file(database: &Path) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".key");
    PathBuf::from(name)
}

/// Finds the keys, and the file beside the database that they were read from; `None` means that a setting gives them.
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

/// Reads the keys in the file at `path`, which is made if it is missing and the database never had a key.
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
