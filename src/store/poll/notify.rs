//! Tells other processes which pollers have got messages, by Postgres' NOTIFY on a channel of its own.
//!
//! An announcement is only a hint. It is sent apart from the transaction that stores messages, because a NOTIFY in a
//! transaction makes its commit wait for those of all others. Must not listen: `queue/notify.rs` does, on one connection
//! for all channels.

use std::time::Duration;

use sea_orm::{ConnectionTrait, Statement};

use crate::domain::poller_number::PollerNumber;
use crate::store::Store;

pub(in crate::store) const CHANNEL: &str = "postrider_poll";
/// The pause after an announcement, so that there are at most a hundred in a second, however many messages come.
const DEBOUNCE: Duration = Duration::from_millis(10);
/// The longest text of an announcement, in bytes: Postgres takes fewer than 8,000.
const LONGEST: usize = 7_500;

/// Announces whenever the intake has noted pollers.
pub(in crate::store) async fn announce(store: &Store) {
    loop {
        let pollers = store.waits().announced().await;
        let numbers: Vec<_> = pollers.iter().map(|poller| poller.0.to_string()).collect();
        // An empty text stands for all pollers.
        let text = Some(numbers.join(","))
            .filter(|text| text.len() <= LONGEST)
            .unwrap_or_default();
        let values = [CHANNEL.into(), text.into()];
        let notify = Statement::from_sql_and_values(store.backend().orm(), "select pg_notify($1, $2)", values);
        if let Err(err) = store.pool().execute_raw(notify).await {
            tracing::debug!(%err, "messages could not be announced to polls; other processes find them when they look");
        }
        store.clock().sleep(DEBOUNCE).await;
    }
}

/// Takes in what another process, or this one, has announced.
pub(in crate::store) fn heard(store: &Store, text: &str) {
    match text {
        "" => store.waits().hint_all(),
        numbers => {
            let numbers = numbers.split(',').filter_map(|number| number.parse().ok());
            store.waits().hint(numbers.map(PollerNumber));
        }
    }
}
