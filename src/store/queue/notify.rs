//! Wake-ups between replicas, by Postgres' LISTEN and NOTIFY, outside every hot transaction. A hint and no more:
//! the poll finds what a lost one would have told. Called by the dispatcher.

use std::time::Duration;

use sea_orm::{ConnectionTrait, Statement};
use sqlx::Executor;
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::error::Result;
use crate::store::Store;
use crate::store::database::store::Pools;

const CHANNEL: &str = "postrider_due";
/// At most ten announcements a second, however many messages.
const DEBOUNCE: Duration = Duration::from_millis(100);
const RECONNECT_PAUSE: Duration = Duration::from_secs(1);
/// A listener that has heard nothing for so long asks whether anybody is there.
const QUIET: Duration = Duration::from_secs(60);

/// Announces what this process leaves due, and hears what others announce, until `ended`.
pub async fn run(store: Store, ended: CancellationToken) {
    if let Pools::Postgres { .. } = store.pools() {
        tokio::select! {
            () = announce(&store) => {}
            () = listen(&store) => {}
            () = ended.cancelled() => {}
        }
    }
}

async fn announce(store: &Store) {
    loop {
        store.announced().await;
        let notify = Statement::from_string(store.backend().orm(), format!("select pg_notify('{CHANNEL}', '')"));
        if let Err(err) = store.reader().execute_raw(notify).await {
            tracing::debug!(%err, "due deliveries were not announced; the others' polls will find them");
        }
        store.clock().sleep(DEBOUNCE).await;
    }
}

async fn listen(store: &Store) {
    loop {
        if let Err(err) = listen_once(store).await {
            tracing::debug!(%err, "not listening for announcements; connecting again");
        }
        store.clock().sleep(RECONNECT_PAUSE).await;
    }
}

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
                heard?;
                store.wake();
            }
            // A host that has vanished is as quiet as one that has nothing to tell.
            () = store.clock().sleep(QUIET) => {
                timeout(*answer_deadline, listener.execute("select 1")).await.map_err(answered)??;
            }
        }
    }
}

/// On a connection of its own: a listener keeps the one it has for good.
async fn subscribe(options: PgConnectOptions) -> Result<PgListener, sqlx::Error> {
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(options)
        .await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}
