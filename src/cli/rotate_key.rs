//! `app rotate-key`: encrypts with the new encryption key everything that the former one encrypted.
//!
//! The work itself is `service::key_rotation`; here the keys are found and the result is printed. Must not remove the
//! former key from its file before everything is encrypted with the new one.

use clap::Args;

use super::output::say;
use crate::app;
use crate::clock::Clock;
use crate::config::{DatabaseSettings, KeySettings};
use crate::domain::audit::Origin;
use crate::error::{Error, Result};
use crate::service::key_rotation::{Rotated, Tally, rotate};
use crate::store::database::schema;
use crate::store::{Hold, Store, sqlite_path};

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Arguments {
    #[command(flatten)]
    database: DatabaseSettings,

    #[command(flatten)]
    key: KeySettings,
}

const NOTES: &str = "\
On Postgres: put a new key above the present one, each on its own line (`app secrets DIR --new-encryption-key` does that
to the file that it has written). Restart every process so that it has both keys, and run this beside them; it refuses
to start while one of them lacks the new key. When it has succeeded, the former key can be removed. If it is
interrupted, run it again and it goes on; a further run changes nothing.

On SQLite it runs while no process serves the file. If the key is the one that was made beside the file, this makes the
new key too, and nothing else is left to do.";

/// Rotates the key, alone on an SQLite file and beside running processes on Postgres.
pub async fn run(arguments: Arguments) -> Result<()> {
    let options = app::connect_options(&arguments.database)?;
    if let Some(missing) = sqlite_path(&options.url).filter(|path| !path.exists()) {
        let path = missing.display();
        return Err(Error::config(format!("there is no database at {path}")));
    }
    let store = Store::open_as(Hold::Alone, &options, Clock::system()).await?;
    app::reach(&store, Some(app::COMMAND_PATIENCE)).await?;
    schema::check(&store).await?;
    let file = app::unlock_to_rotate(&store, &options, &arguments.key).await?;
    let rotated = rotate(&store, &Origin::cli("cli.rotate-key")).await?;
    store.close().await;
    if let Some(path) = file {
        app::drop_former_key(&path)?;
    }
    report(&rotated)
}

/// Prints how many endpoints and replies were encrypted anew.
///
/// # Errors
/// `Config` if neither key opens some of them; they stay as they are.
fn report(rotated: &Rotated) -> Result<()> {
    let Rotated {
        changed,
        endpoints,
        replies,
    } = rotated;
    say(match changed {
        true => format!(
            "re-encrypted {} endpoints and {} idempotency replies: the former key is no longer needed",
            endpoints.resealed, replies.resealed
        ),
        false => "nothing to do: everything is encrypted with the new key".to_owned(),
    })?;
    if endpoints.unreadable + replies.unreadable == 0 {
        return Ok(());
    }
    Err(Error::config(format!(
        "neither key decrypts something of {} endpoints and {} idempotency replies, which stay as they are, such as {}",
        endpoints.unreadable,
        replies.unreadable,
        named(endpoints).chain(named(replies)).collect::<Vec<_>>().join(", ")
    )))
}

/// Returns the unreadable rows that the tally names, each as `owner/row`.
fn named(tally: &Tally) -> impl Iterator<Item = String> {
    tally.named.iter().map(|(owner, row)| format!("{owner}/{row}"))
}
