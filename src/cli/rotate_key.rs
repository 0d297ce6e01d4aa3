//! `app rotate-key`: replaces the encryption key by a new one. Called by cli.

use clap::Args;

use super::say;
use crate::app;
use crate::clock::Clock;
use crate::config::{DatabaseSettings, KeySettings};
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
On Postgres: put a new key above the present one, a line each (`app secrets DIR --new-encryption-key` does that to a
file of its own), start every process again so that it holds both, and run this beside them; it refuses while one of them
lacks the new key. Then the former key can be taken away. Interrupted, it is run again and goes on; run once more it
changes nothing.

On SQLite it runs while no process serves the file. Where the key is the one that was made beside it, this makes the new
one too, and leaves nothing else to do.";

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
    let rotated = rotate(&store).await?;
    store.close().await;
    if let Some(path) = file {
        app::drop_former_key(&path)?;
    }
    report(&rotated)
}

fn report(rotated: &Rotated) -> Result<()> {
    let Rotated {
        changed,
        endpoints,
        replies,
    } = rotated;
    say(match changed {
        true => format!(
            "re-encrypted {} endpoints and {} idempotency replies: the former key is not needed any more",
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

fn named(tally: &Tally) -> impl Iterator<Item = String> {
    tally.named.iter().map(|(one, other)| format!("{one}/{other}"))
}
