//! Reads the poller's messages, by an iterator and as a consumer, and compares them with the model.

use serde_json::{Value, json};

use super::compare::text;
use super::{Play, named};
use crate::harness::{DEADLINE, Patience};
use crate::model::operation::Filter;

impl Play<'_, '_> {
    pub(super) async fn poll(&mut self, limit: usize) {
        let path = format!("{}/poller/p?limit={limit}{}", self.app, self.iterator);
        let wanted = self.wanted(self.expected.place, Filter::default(), limit);
        self.iterator = self.read_page(&path, &wanted).await;
        self.expected.place += wanted.len();
    }

    pub(super) async fn search(&mut self, limit: usize, wanted: Filter) {
        let name = |kind, bits| named(kind, bits).map(|names| names.concat());
        let by_type = name('t', wanted.event_types).map(|name| format!("&event_type={name}"));
        let by_channel = name('c', wanted.channels).map(|name| format!("&channel={name}"));
        let filter = by_type.or(by_channel).unwrap_or_default();
        let path = format!("{}/poller/p?limit={limit}{}{filter}", self.app, self.iterator);
        let wanted = self.wanted(self.expected.place, wanted, limit);
        self.read_page(&path, &wanted).await;
    }

    pub(super) async fn consume(&mut self, limit: usize, confirms: bool) {
        let consumer = &mut self.expected.consumer;
        let mut path = format!("{}/poller/p/consumer/c?limit={limit}", self.app);
        if confirms {
            consumer.confirmed = consumer.reached;
            path += &self.consumed;
        }
        let confirmed = consumer.confirmed;
        let wanted = self.wanted(confirmed, Filter::default(), limit);
        self.consumed = self.read_page(&path, &wanted).await;
        self.expected.consumer.reached = confirmed + wanted.len();
    }

    /// Returns a page as it must be: ids and payloads.
    fn wanted(&self, place: usize, wanted: Filter, limit: usize) -> Vec<(String, Value)> {
        let page = self.expected.page(place, wanted, limit).into_iter();
        page.map(|message| match message.has_content {
            true => (message.id.clone(), message.payload.clone()),
            false => (message.id.clone(), json!({"expired": true})),
        })
        .collect()
    }

    /// Reads a page until it is as wanted, and returns the parameter with its iterator.
    async fn read_page(&self, path: &str, wanted: &[(String, Value)]) -> String {
        let mut patience = Patience::of(DEADLINE);
        loop {
            let page = self.api().get(path).await;
            let read = page.expect(200)["data"].as_array().expect("a list").iter();
            let read: Vec<_> = read.map(|row| (text(row, "id"), row["payload"].clone())).collect();
            if read == wanted {
                return format!("&iterator={}", page.field("iterator"));
            }
            // On Postgres an open transaction of another test holds messages back.
            assert!(wanted.starts_with(&read), "polled {read:?}, not {wanted:?}");
            assert!(!patience.is_over().await, "still polled {read:?}, not {wanted:?}");
        }
    }
}
