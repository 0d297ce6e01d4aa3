//! `app backup`: an SQLite database and its encryption key, copied while it is served. Called by cli.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{absolute_path, say};
use crate::app;
use crate::clock::Clock;
use crate::config::{DatabaseSettings, KeySettings};
use crate::error::{Error, Result};
use crate::store::database::backup;
use crate::store::{Hold, Store, sqlite_path};

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Arguments {
    /// The file to write; its folder is made where only that is missing. Neither it nor FILE.key may be there yet
    #[arg(value_name = "FILE", value_parser = absolute_path())]
    file: PathBuf,

    #[command(flatten)]
    database: DatabaseSettings,

    #[command(flatten)]
    key: KeySettings,
}

const NOTES: &str = "\
An SQLite database is copied as it is at one instant, while `app serve` goes on; what was answered before is in it. The
encryption key goes beside it, to FILE.key, unless a setting gives it: then keep that too. Both are the owner's alone.

To restore, stop `app serve`, and put both in place of all that is left of the old database:
  rm -f data/postrider.sqlite data/postrider.sqlite-wal data/postrider.sqlite-shm
  cp FILE data/postrider.sqlite
  cp FILE.key data/postrider.sqlite.key

Postgres is backed up by pg_dump; in the Compose stack by `docker compose run --rm backup`.";

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
    Error::config("interrupted: there is no backup")
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
    let key = key_beside.as_deref().map(read_key).transpose()?;
    backup::copy(&store, &copy.path).await?;
    store.close().await;
    if key != key_beside.as_deref().map(read_key).transpose()? {
        return Err(Error::config(
            "the encryption key was changed meanwhile: there is no backup, try again",
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

/// A file on its way to its name. Dropped before, nothing of it is left.
struct Draft {
    name: PathBuf,
    path: PathBuf,
}

impl Draft {
    /// Empty, for the owner alone. While it is there nobody else writes a file of this name.
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

    /// Durable, and under its name.
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

/// Makes the folder that `file` goes to, but not the one that it is in: that would be a name misspelt.
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
