//! `app secrets`: the secrets that a deployment needs before its first start. Called by cli.

use std::path::PathBuf;

use clap::Args;

use super::say;
use crate::config::write_missing;
use crate::error::{Error, Result};

/// Below the folder, so that each of the two folders can be a volume of its own.
const FILES: [&str; 2] = ["database/password", "app/encryption_key"];

#[derive(Args)]
#[command(
    after_help = "Writes DIR/database/password and DIR/app/encryption_key, readable by all, where they are missing.\n\
                        A file that exists is never changed."
)]
pub struct Arguments {
    /// The folder to write to
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    for name in FILES {
        let path = arguments.folder.join(name);
        let made = write_missing(&path, 0o444)
            .map_err(|err| Error::config(format!("cannot write {}", path.display())).because(err))?;
        say(format!("{}: {}", path.display(), if made { "written" } else { "kept" }))?;
    }
    Ok(())
}
