//! Wakes claimers across processes by Postgres' LISTEN and NOTIFY. A process announces that it leaves deliveries due;
//! each process listens, and wakes its claimer. The same connection hears what is announced to polls.
//!
//! An announcement is only a hint: if one is lost, the next poll of a claimer finds the deliveries. Does nothing on
//! SQLite, which has one process.
//!
//! Must not announce within a transaction that accepts or settles.

use std::time::Duration;

use sea_orm::{ConnectionTrait, Statement};
use sqlx::Executor;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::store::database::store::Pools;
use crate::store::{Store, poll};

const CHANNEL: &str = "postrider_due";
/// The pause after an announcement, so that there are at most ten in a second, however many messages come.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// The pause before a connection that has failed is opened again.
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// How long a listener hears nothing before it checks that the server still answers.
const QUIET: Duration = Duration::from_secs(60);

/// Announces that this process leaves deliveries due, and wakes the claimer when another process does, until `ended`.
pub async fn run(store: Store, ended: CancellationToken) {
    if let Pools::Postgres { .. } = store.pools() {
        tokio::select! {
            () = announce(&store) => {}
            () = poll::announce(&store) => {}
            () = listen(&store) => {}
            () = ended.cancelled() => {}
        }
    }
}

/// Announces whenever [`Store::announce`] was called.
async fn announce(store: &Store) {
    loop {
        store.announced().await;
        let notify = Statement::from_string(store.backend().orm(), format!("select pg_notify('{CHANNEL}', '')"));
        if let Err(err) = store.pool().execute_raw(notify).await {
            tracing::debug!(%err, "due deliveries could not be announced; other processes find them when they poll");
        }
        store.clock().sleep(DEBOUNCE).await;
    }
}

/// Listens for announcements, and connects again after each failure.
async fn listen(store: &Store) {
    loop {
        if let Err(err) = listen_once(store).await {
            tracing::debug!(%err, "not listening for announcements; connecting again");
        }
        store.clock().sleep(RECONNECT_PAUSE).await;
    }
}

/// Listens until the connection fails. Returns at once on SQLite.
async fn listen_once(store: &Store) -> Result<(), sqlx::Error> {
    let Pools::Postgres {
        options,
        answer_deadline,
        ..
    } = store.pools()
    else {
        return Ok(());
    };
    let answered = |_| sqlx::Error::Io(std::io::ErrorKind::TimedOut.into());
    let mut listener = timeout(*answer_deadline, subscribe((**options).clone()))
        .await
        .map_err(answered)??;
    loop {
        tokio::select! {
            heard = listener.recv() => {
                let heard = heard?;
                match heard.channel() {
                    poll::CHANNEL => poll::heard(store, heard.payload()),
                    _ => store.wake(),
                }
            }
            // A host that has vanished is as quiet as one without announcements.
            () = store.clock().sleep(QUIET) => {
                timeout(*answer_deadline, listener.execute("select 1")).await.map_err(answered)??;
            }
        }
    }
}

/// Opens a listener on a connection of its own, because it never gives its connection back.
async fn subscribe(options: PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen_all([CHANNEL, poll::CHANNEL]).await?;
    Ok(listener)
}
