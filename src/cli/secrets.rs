//! `app secrets`: writes the secrets that a deployment needs before its first start, and replaces its encryption key.
//!
//! An existing secret is never changed, except by the two options for a rotation of the encryption key. Must not print
//! a secret.

use std::fs::{self, DirBuilder};
use std::io::{self, ErrorKind};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use clap::Args;

use super::output::{absolute_path, say};
use crate::app;
use crate::config::{read_encryption_key, write_missing};
use crate::error::{Error, Result};

/// The files below the folder, each in a subfolder of its own, so that each can be a volume that only some containers
/// get.
const FILES: [&str; 2] = ["database/password", ENCRYPTION_KEY];
const ENCRYPTION_KEY: &str = "app/encryption_key";

#[derive(Args)]
#[command(
    after_help = "Writes DIR/database/password and DIR/app/encryption_key, readable by all, if they are missing. If DIR itself is\n\
                        missing, it is made for its owner alone; if it exists, its mode stays as it is.\n\
                        A file that exists is changed only by the two options for a rotation of the encryption key:\n\
                        --new-encryption-key, restart every process, run `app rotate-key`, and only when that has\n\
                        succeeded --drop-former-key: the key that it drops cannot be recovered."
)]
pub struct Arguments {
    /// The folder to write to
    #[arg(value_name = "DIR", value_parser = absolute_path())]
    folder: PathBuf,

    /// Only put a new encryption key above the present key, which becomes the former one
    #[arg(long, conflicts_with = "drop_former_key")]
    new_encryption_key: bool,

    /// Only remove the former encryption key, after a rotation
    #[arg(long)]
    drop_former_key: bool,
}

/// Writes the secrets that are missing, or changes the encryption key's file as an option says.
pub fn run(arguments: &Arguments) -> Result<()> {
    let key = arguments.folder.join(ENCRYPTION_KEY);
    if arguments.new_encryption_key {
        let present = read_encryption_key(&key)?;
        if present.former.is_some() {
            return Err(Error::config(format!(
                "{} holds two keys: a rotation is under way; end it with `app rotate-key` and --drop-former-key",
                key.display()
            )));
        }
        app::replace_keys(&key, &present.renewed())?;
        return say(format!("{}: a new key above the former one", key.display()));
    }
    if arguments.drop_former_key {
        let present = read_encryption_key(&key)?;
        if present.former.is_none() {
            return say(format!("{}: kept, it holds one key", key.display()));
        }
        app::drop_former_key(&key)?;
        return say(format!("{}: the former key is dropped", key.display()));
    }
    make_folder(&arguments.folder)
        .map_err(|err| Error::config(format!("cannot make {}", arguments.folder.display())).because(err))?;
    for name in FILES {
        let path = arguments.folder.join(name);
        let made = write_missing(&path, 0o444)
            .map_err(|err| Error::config(format!("cannot write {}", path.display())).because(err))?;
        say(format!("{}: {}", path.display(), if made { "written" } else { "kept" }))?;
    }
    Ok(())
}

/// Makes the folder at `path`, readable by its owner alone, so that the files in it can be readable by every user that
/// they are mounted for. A folder that exists stays as it is: it may be a volume that other users need to read.
fn make_folder(path: &Path) -> io::Result<()> {
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(path) {
        Err(err) if err.kind() == ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}
