//! `app migrate`: changes the database's schema, or shows which migrations are applied.
//!
//! The migrations themselves are in `migration/`. Must not need the encryption key.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::output::say;
use crate::app;
use crate::clock::Clock;
use crate::config::{DatabaseSettings, MigrateSettings};
use crate::error::{Error, Result};
use crate::store::database::schema::{self, Change, StepState};
use crate::store::{ConnectOptions, Hold, Store, sqlite_path};

/// How long a migration up waits until another process releases the same SQLite file.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Arguments {
    #[arg(value_enum, default_value_t = Action::Up)]
    action: Action,

    /// How many migrations `down` reverts
    #[arg(long, env = "POSTRIDER_MIGRATE_STEPS", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,

    /// Confirm that everything in the database is to be deleted: fresh and refresh need it
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    database: DatabaseSettings,

    #[command(flatten)]
    migrations: MigrateSettings,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Action {
    /// Apply the pending migrations; any number of processes may do it at once
    Up,
    /// Revert the last migration, and lose the data that only its schema can hold
    Down,
    /// List the migrations and whether each is applied
    Status,
    /// Drop every table of the database, also those of other programs, and migrate up
    Fresh,
    /// Revert all migrations and apply them again; other tables stay
    Refresh,
}

const NOTES: &str = "\
Processes of an older version keep working while a newer one migrates Postgres, and afterwards, unless the newest
migration says otherwise. An SQLite file is changed only while no process serves it; `app serve` migrates it itself.";

/// Changes the schema as the arguments say, and prints whether there was anything to do.
pub async fn run(arguments: Arguments) -> Result<()> {
    let options = app::migrate_options(&arguments.database, &arguments.migrations)?;
    let change = match arguments.action {
        Action::Up => Change::Up,
        Action::Down => Change::Down(arguments.steps),
        Action::Status => return status(&options).await,
        Action::Fresh | Action::Refresh if !arguments.yes => {
            return Err(Error::config(
                "this deletes everything in the database: say --yes if that is meant",
            ));
        }
        Action::Fresh => Change::Fresh,
        Action::Refresh => Change::Refresh,
    };
    let store = open_to_change(&options, change).await?;
    let changed = match store {
        Some(store) => {
            let changed = schema::change(&store, change).await?;
            store.close().await;
            changed
        }
        None => false,
    };
    say(if changed { "migrated" } else { "nothing to do" })
}

/// Opens the database to change its schema.
///
/// `None` means that nothing is to be done; only a migration up of an SQLite file returns it. A running `serve` holds
/// the lock of that file. So this looks for pending migrations without the lock first, and `migrate` succeeds if the
/// database is up to date and served.
async fn open_to_change(options: &ConnectOptions, change: Change) -> Result<Option<Store>> {
    if change == Change::Up && sqlite_path(&options.url).is_some_and(|path| path.exists()) {
        let store = Store::open_as(Hold::Beside, options, Clock::system()).await?;
        let steps = schema::status(&store).await?;
        store.close().await;
        if steps.iter().all(|step| step.state != StepState::Pending) {
            return Ok(None);
        }
    }
    // Replicas that start together may all migrate up, and wait for each other. Every other change is refused at once
    // if another process uses the file.
    let hold = if change == Change::Up {
        Hold::AloneWithin(PATIENCE)
    } else {
        Hold::Alone
    };
    let store = Store::open_as(hold, options, Clock::system()).await?;
    app::reach(&store, Some(app::COMMAND_PATIENCE)).await?;
    Ok(Some(store))
}

/// Prints each migration with its state.
async fn status(options: &ConnectOptions) -> Result<()> {
    let store = Store::open_as(Hold::Beside, options, Clock::system()).await?;
    app::reach(&store, Some(app::COMMAND_PATIENCE)).await?;
    let steps = schema::status(&store).await?;
    store.close().await;
    for step in steps {
        let state = match step.state {
            StepState::Applied => "applied",
            StepState::Pending => "pending",
            StepState::Unknown => "applied, unknown to this program",
        };
        say(format!("{}  {state}", step.name))?;
    }
    Ok(())
}
