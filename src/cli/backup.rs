//! `app backup`: copies an SQLite database and its encryption key while the database is served.
//!
//! Each copy is written under the name FILE.part and gets its own name only when it is complete and on the disk. If
//! anything fails, neither copy is left. A copy and a key that do not belong together must not be published, nor must
//! an existing file be replaced.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::output::{absolute_path, say};
use crate::app;
use crate::clock::Clock;
use crate::config::{DatabaseSettings, KeySettings};
use crate::error::{Error, Result};
use crate::store::database::backup;
use crate::store::{Hold, Store, sqlite_path};

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Arguments {
    /// The file to write; its folder is made if only that one is missing. Neither FILE nor FILE.key may exist yet
    #[arg(value_name = "FILE", value_parser = absolute_path())]
    file: PathBuf,

    #[command(flatten)]
    database: DatabaseSettings,

    #[command(flatten)]
    key: KeySettings,
}

const NOTES: &str = "\
Copies an SQLite database as it is at one instant, while `app serve` runs; everything that was accepted before is in the
copy. The encryption key is copied to FILE.key, unless a setting gives it: then keep that too. Only their owner can read
the copies.

To restore, stop `app serve`, and replace all that is left of the old database by both copies:
  rm -f data/postrider.sqlite data/postrider.sqlite-wal data/postrider.sqlite-shm
  cp FILE data/postrider.sqlite
  cp FILE.key data/postrider.sqlite.key

Postgres is backed up by pg_dump; in the Compose stack by `docker compose run --rm backup`.";

/// Makes the backup. SIGTERM and SIGINT end it in order, so that no draft is left.
pub async fn run(arguments: Arguments) -> Result<()> {
    let stopped = |err| Error::internal("cannot listen for signals").because(err);
    let mut terminate = signal(SignalKind::terminate()).map_err(stopped)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(stopped)?;
    tokio::select! {
        done = back_up(&arguments) => done,
        _ = terminate.recv() => Err(interrupted()),
        _ = interrupt.recv() => Err(interrupted()),
    }
}

fn interrupted() -> Error {
    Error::config("interrupted: no backup was made")
}

async fn back_up(arguments: &Arguments) -> Result<()> {
    let options = app::connect_options(&arguments.database)?;
    let Some(database) = sqlite_path(&options.url) else {
        return Err(Error::config(
            "DATABASE_URL is a Postgres database: back it up with pg_dump, in the Compose stack with \
             `docker compose run --rm backup`",
        ));
    };
    let key_beside = match arguments.key.encryption_key()? {
        Some(_) => None,
        None => Some(app::key_file(&database)).filter(|path| path.exists()),
    };
    let file = &arguments.file;
    let key_file = with_suffix(file, ".key");
    make_folder(file)?;
    let copy = Draft::of(file)?;
    let key_copy = Draft::of(&key_file)?;

    let store = Store::open_as(Hold::Beside, &options, Clock::system()).await?;
    // Read before and after the copy: if both are the same, no rotation ended in between, and the key opens the copy.
    let key = key_beside.as_deref().map(read_key).transpose()?;
    backup::copy(&store, &copy.path).await?;
    store.close().await;
    if key != key_beside.as_deref().map(read_key).transpose()? {
        return Err(Error::config(
            "the encryption key was replaced meanwhile: no backup was made, try again",
        ));
    }
    if let Some(key) = &key {
        key_copy.write(key)?;
        key_copy.publish()?;
    }
    if let Err(err) = copy.publish() {
        let _ = key.map(|_| fs::remove_file(&key_file));
        return Err(err);
    }
    let size = fs::metadata(file).map_err(|err| cannot_write(file, err))?.len();
    say(format!("{}: {size} bytes", file.display()))?;
    say(match key_beside {
        Some(_) => format!(
            "{}: the encryption key, without which its secrets cannot be read",
            key_file.display()
        ),
        None => "the encryption key is kept elsewhere (POSTRIDER_ENCRYPTION_KEY), and is needed too".to_owned(),
    })
}

/// A file that is being written and does not have its name yet. Dropping it removes it, unless it was published.
struct Draft {
    /// The name that it gets when it is published.
    name: PathBuf,
    /// Its path until then: the name with `.part` at its end.
    path: PathBuf,
}

impl Draft {
    /// Creates an empty draft that only its owner can read. While it exists, no other backup can write the file `name`.
    ///
    /// # Errors
    /// `Config` if the file `name` or its draft exists, or cannot be written.
    fn of(name: &Path) -> Result<Self> {
        let path = with_suffix(name, ".part");
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        made.map_err(|err| match err.kind() {
            ErrorKind::AlreadyExists => Error::config(format!(
                "{} is there: another backup is being written, or was killed and the file can be removed",
                path.display()
            )),
            _ => cannot_write(&path, err),
        })?;
        let draft = Self {
            name: name.to_owned(),
            path,
        };
        match fs::symlink_metadata(name) {
            Err(err) if err.kind() == ErrorKind::NotFound => Ok(draft),
            Err(err) => Err(cannot_write(name, err)),
            Ok(_) => Err(Error::config(format!(
                "{} exists: nothing is written over it, choose another name",
                name.display()
            ))),
        }
    }

    fn write(&self, content: &[u8]) -> Result<()> {
        let file = OpenOptions::new().write(true).open(&self.path);
        let written = file.and_then(|mut file| file.write_all(content));
        written.map_err(|err| cannot_write(&self.path, err))
    }

    /// Flushes the file to the disk and gives it its name.
    fn publish(&self) -> Result<()> {
        let published = File::open(&self.path)
            .and_then(|file| file.sync_all())
            .and_then(|()| fs::rename(&self.path, &self.name))
            .and_then(|()| File::open(folder_of(&self.name))?.sync_all());
        published.map_err(|err| cannot_write(&self.name, err))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes the folder of `file` if it is missing, but not that folder's parent: if that is missing too, the path is
/// probably misspelt.
fn make_folder(file: &Path) -> Result<()> {
    let folder = folder_of(file);
    if folder.is_dir() {
        return Ok(());
    }
    let made = DirBuilder::new().mode(0o700).create(folder);
    made.map_err(|err| Error::config(format!("cannot make the folder {}", folder.display())).because(err))
}

fn folder_of(file: &Path) -> &Path {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name: OsString = path.into();
    name.push(suffix);
    name.into()
}

fn read_key(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|err| Error::config(format!("cannot read the key file {}", path.display())).because(err))
}

fn cannot_write(path: &Path, err: std::io::Error) -> Error {
    Error::config(format!("cannot write {}", path.display())).because(err)
}
