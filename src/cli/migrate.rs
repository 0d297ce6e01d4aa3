//! `app migrate`: changes the schema, or shows where it stands. Called by cli.

use std::time::Duration;

use clap::{Args, ValueEnum};

use super::say;
use crate::app;
use crate::clock::Clock;
use crate::config::{DatabaseSettings, MigrateSettings};
use crate::error::{Error, Result};
use crate::store::database::schema::{self, Change, StepState};
use crate::store::{ConnectOptions, Hold, Store, sqlite_path};

/// How long a migration waits for another one of the same SQLite file.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Args)]
#[command(after_help = NOTES)]
pub struct Arguments {
    #[arg(value_enum, default_value_t = Action::Up)]
    action: Action,

    /// How many migrations `down` takes back
    #[arg(long, env = "POSTRIDER_MIGRATE_STEPS", value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    steps: u32,

    /// Says that losing everything in the database is meant: fresh and refresh need it
    #[arg(long)]
    yes: bool,

    #[command(flatten)]
    database: DatabaseSettings,

    #[command(flatten)]
    migrations: MigrateSettings,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Action {
    /// Apply what is pending; any number of processes may do it at once
    Up,
    /// Take the last migration back, with the data that only it has a place for
    Down,
    /// List the migrations and which of them are applied
    Status,
    /// Drop every table of the database, also those of others, and migrate up
    Fresh,
    /// Take all migrations back and apply them again; other tables stay
    Refresh,
}

const NOTES: &str = "\
Processes that serve an older version keep working while and after a newer one migrates Postgres, unless the newest
migration says otherwise. An SQLite file is changed only while no process serves it: `app serve` migrates by itself.";

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

/// `None` when a look beside a running `serve` shows that there is nothing to do.
async fn open_to_change(options: &ConnectOptions, change: Change) -> Result<Option<Store>> {
    if change == Change::Up && sqlite_path(&options.url).is_some_and(|path| path.exists()) {
        let store = Store::open_as(Hold::Beside, options, Clock::system()).await?;
        let steps = schema::status(&store).await?;
        store.close().await;
        if steps.iter().all(|step| step.state != StepState::Pending) {
            return Ok(None);
        }
    }
    // Several may migrate up at once; everything else is one person's decision.
    let hold = if change == Change::Up {
        Hold::AloneWithin(PATIENCE)
    } else {
        Hold::Alone
    };
    let store = Store::open_as(hold, options, Clock::system()).await?;
    app::reach(&store, Some(app::COMMAND_PATIENCE)).await?;
    Ok(Some(store))
}

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
