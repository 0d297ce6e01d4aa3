//! Plays sequences against the product and the model side by side, and panics at the first difference.
//!
//! All sequences share one database and one process, which a kill replaces; each has an application of its own. Must
//! not decide what is right: `expected` does.

mod compare;
mod poll;
mod world;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use self::compare::Queued;
use self::world::Reactions;
pub use self::world::World;
use super::expected::{Endpoint, Expected, Message, Repeated};
use super::operation::{Filter, Operation, Reaction, Sequence, Task};
use crate::api::Api;
use crate::harness::{Kind, Receiver};

/// No sequence lasts longer, and no recovery may reach back further.
const LONGEST: Duration = Duration::from_secs(14 * 86_400);
/// The bytes that make a payload a large one.
const LARGE: usize = 70_000;
/// The longest wait of the schedule with its jitter is shorter.
const LONGER_THAN_ANY_WAIT: u64 = 1_300;

/// One sequence that is being played.
struct Play<'a, 'b> {
    world: &'a mut World<'b>,
    receiver: Receiver,
    reactions: Arc<Mutex<Reactions>>,
    expected: Expected,
    /// The path of the application.
    app: String,
    /// Arrivals that were compared.
    seen: usize,
    /// The iterator of the last poll.
    iterator: String,
    /// The iterator of the consumer's last page.
    consumed: String,
}

/// Returns the names of the things with these bits; `None` means all.
fn named(kind: char, bits: u8) -> Option<Vec<String>> {
    let numbers = (0..2).filter(|number| bits & (1 << number) != 0);
    (bits != 0).then(|| numbers.map(|number| format!("{kind}{number}")).collect())
}

fn filter_of(filter: Filter) -> Value {
    json!({"eventTypes": named('t', filter.event_types), "channels": named('c', filter.channels)})
}

/// Returns a signing secret of 24 bytes.
fn secret_of(number: u32) -> String {
    use base64::Engine;
    let bytes = [number.to_be_bytes(); 6].concat();
    format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(bytes))
}

impl<'a, 'b> Play<'a, 'b> {
    async fn begin(world: &'a mut World<'b>, poller: Filter) -> Self {
        let receiver = Receiver::start().await;
        let reactions = Arc::<Mutex<Reactions>>::default();
        let known = reactions.clone();
        receiver.answer_by(move |arrival| known.lock().expect("no panic").answer(arrival));
        let app = format!("/app/{}", world.api().application("a").await);
        let mut wanted = filter_of(poller);
        wanted["uid"] = json!("p");
        world.api().post(&format!("{app}/poller"), wanted).await.expect(201);
        let expected = Expected::new(world.clock.now(), poller);
        Self {
            world,
            receiver,
            reactions,
            expected,
            app,
            seen: 0,
            iterator: String::new(),
            consumed: String::new(),
        }
    }

    fn api(&self) -> &Api {
        self.world.api()
    }

    /// Returns the path of the endpoint in a slot, if there is one.
    fn endpoint(&mut self, slot: usize) -> Option<String> {
        let endpoint = self.expected.present(slot)?;
        Some(format!("{}/endpoint/{}", self.app, endpoint.id))
    }

    /// Returns the number of a message, if there is one.
    fn message(&self, number: usize) -> Option<usize> {
        number.checked_rem(self.expected.messages.len())
    }

    async fn perform(&mut self, operation: &Operation) {
        match *operation {
            Operation::Send {
                event_type,
                channels,
                event_id,
                is_large,
            } => self.send(event_type, channels, event_id, is_large).await,
            Operation::SendOnce { key, variant } => self.send_once(key, variant).await,
            Operation::Create { endpoint, filter } => self.create(endpoint, filter).await,
            Operation::Filter { endpoint, filter } => {
                if let Some(path) = self.endpoint(endpoint) {
                    self.api().patch(&path, filter_of(filter)).await.expect(200);
                    self.expected.present(endpoint).expect("it exists").filter = filter;
                }
            }
            Operation::Move { endpoint } => self.relocate(endpoint).await,
            Operation::Header { endpoint, value } => {
                if let Some(path) = self.endpoint(endpoint) {
                    let headers = value.map_or(json!({}), |value| json!({"X-Model": value.to_string()}));
                    let replaced = self
                        .api()
                        .put(&format!("{path}/headers"), json!({"headers": headers}))
                        .await;
                    replaced.expect(204);
                    self.expected.present(endpoint).expect("it exists").header = value;
                }
            }
            Operation::Disable { endpoint, disabled } => {
                if let Some(path) = self.endpoint(endpoint) {
                    self.api().patch(&path, json!({"disabled": disabled})).await.expect(200);
                    self.expected.disable(endpoint, disabled);
                }
            }
            Operation::Delete { endpoint } => {
                if let Some(path) = self.endpoint(endpoint) {
                    self.api().delete(&path).await.expect(204);
                    self.expected.delete(endpoint);
                }
            }
            Operation::Rotate { endpoint, grace } => self.rotate(endpoint, grace).await,
            Operation::React { endpoint, reaction } => {
                if let Some(endpoint) = self.expected.present(endpoint) {
                    endpoint.reaction = reaction;
                    self.show_reactions();
                }
            }
            Operation::Resend { message, endpoint } => self.resend(message, endpoint).await,
            Operation::Start { task, endpoint } => self.start(task, endpoint).await,
            Operation::Expunge { message } => self.expunge(message).await,
            Operation::Drain => self.drain().await,
            Operation::Wait { seconds } => self.wait(seconds).await,
            Operation::Kill { sending } => self.kill(sending).await,
            Operation::Prune => self.world.prune().await,
            Operation::Poll { limit } => self.poll(limit).await,
            Operation::Search { limit, wanted } => self.search(limit, wanted).await,
            Operation::Consume { limit, confirms } => self.consume(limit, confirms).await,
            Operation::Compare => self.compare().await,
        }
    }

    async fn play(&mut self, sequence: &Sequence) {
        for operation in &sequence.operations {
            self.perform(operation).await;
        }
        match sequence.is_abandoned {
            true => self.abandon().await,
            false => self.end().await,
        }
    }

    /// Deletes the application, and waits: nothing more may be sent.
    async fn abandon(&mut self) {
        self.api().delete(&self.app).await.expect(204);
        self.expected.abandon();
        for _ in 0..2 {
            self.wait(LONGER_THAN_ANY_WAIT).await;
        }
        assert_eq!(self.expected.rows(), [], "the model has nothing left to send");
    }

    /// Lets all receivers work, waits until nothing is left to be sent, and compares for the last time.
    async fn end(&mut self) {
        for endpoint in &mut self.expected.endpoints {
            endpoint.reaction = Reaction::Status(200);
        }
        self.show_reactions();
        for _ in 0..2 {
            self.wait(LONGER_THAN_ANY_WAIT).await;
        }
        assert_eq!(self.expected.rows(), [], "the model has nothing left to send");
        self.compare().await;
        self.poll(250).await;
        self.api().delete(&self.app).await.expect(204);
    }

    fn show_reactions(&self) {
        let endpoints = self.expected.endpoints.iter();
        self.reactions.lock().expect("no panic").of = endpoints
            .map(|endpoint| (endpoint.route().to_owned(), endpoint.reaction))
            .collect();
    }

    async fn send(&mut self, event_type: u8, channels: u8, event_id: Option<u8>, is_large: bool) {
        let text = "x".repeat(if is_large { LARGE } else { 0 });
        let payload = json!({"number": self.expected.messages.len(), "text": text});
        let body = json!({
            "eventType": format!("t{event_type}"),
            "channels": named('c', channels),
            "eventId": event_id.map(|number| format!("e{number}")),
            "payload": payload,
        });
        let made = self.api().post(&format!("{}/msg", self.app), body).await;
        if event_id.is_some_and(|number| !self.expected.take_event_id(number)) {
            made.refused(409, "conflict");
        } else {
            made.expect(202);
            self.accepted(made.field("id"), event_type, channels, payload);
        }
    }

    async fn send_once(&mut self, key: u8, variant: u8) {
        let event_id = (key == 1).then_some("e0");
        let payload = json!({"variant": variant});
        let body = json!({"eventType": "t0", "eventId": event_id, "payload": payload});
        let path = format!("{}/msg", self.app);
        // The applications of other sequences have the same keys.
        let made = self.api().post_once(&path, &key.to_string(), body).await;
        match self.expected.repeats(key, variant) {
            Repeated::Conflict => made.refused(409, "conflict"),
            Repeated::Of(message) => {
                made.expect(202);
                assert_eq!(
                    made.field("id"),
                    self.expected.messages[message].id,
                    "the first reply comes again"
                );
            }
            Repeated::First if event_id.is_some() && !self.expected.take_event_id(0) => {
                made.refused(409, "conflict");
            }
            Repeated::First => {
                made.expect(202);
                self.accepted(made.field("id"), 0, 0, payload);
                self.expected.remember(key, variant);
            }
        }
    }

    fn accepted(&mut self, id: String, event_type: u8, channels: u8, payload: Value) {
        let created_at = self.expected.now;
        self.expected.accept(Message {
            id,
            event_type,
            channels,
            created_at,
            payload,
            has_content: true,
        });
    }

    async fn create(&mut self, slot: usize, filter: Filter) {
        if self.expected.slots[slot].is_some() {
            return;
        }
        let number = self.world.number();
        let (path, secret) = (format!("/{number}"), secret_of(number));
        let mut body = filter_of(filter);
        body["url"] = json!(self.receiver.url_of(&path));
        body["secret"] = json!(secret);
        let made = self.api().post(&format!("{}/endpoint", self.app), body).await;
        made.expect(201);
        let endpoint = Endpoint {
            id: made.field("id"),
            path,
            header: None,
            filter,
            disabled: None,
            deleted: false,
            failing_since: None,
            secrets: vec![(secret, None)],
            reaction: Reaction::Status(200),
        };
        self.expected.create(slot, endpoint);
        self.show_reactions();
    }

    /// Gives an endpoint another URL. Requests to the old one, whose failures then do not count, have ended before.
    async fn relocate(&mut self, slot: usize) {
        self.drain().await;
        let (Some(path), number) = (self.endpoint(slot), self.world.number()) else {
            return;
        };
        let known = self.expected.present(slot).expect("it exists");
        let moved = format!("{}?{number}", known.route());
        let body = json!({"url": self.receiver.url_of(&moved)});
        self.api().patch(&path, body).await.expect(200);
        self.expected.relocate(slot, moved);
    }

    async fn rotate(&mut self, slot: usize, grace: u64) {
        let Some(path) = self.endpoint(slot) else { return };
        let secret = secret_of(self.world.number());
        let body = json!({"key": secret, "gracePeriodSeconds": grace});
        let made = self.api().post(&format!("{path}/secret/rotate"), body).await;
        match self.expected.rotate(slot, secret, Duration::from_secs(grace)) {
            true => drop(made.expect(200)),
            false => made.refused(400, "limit_reached"),
        }
    }

    async fn resend(&mut self, message: usize, slot: usize) {
        let (Some(message), Some(endpoint)) = (self.message(message), self.expected.present(slot)) else {
            return;
        };
        let endpoint = endpoint.id.clone();
        let known = &self.expected.messages[message];
        let path = format!("{}/msg/{}/endpoint/{endpoint}/resend", self.app, known.id);
        let made = self.api().post(&path, json!({})).await;
        match known.has_content {
            true => {
                made.expect(202);
                self.expected.resend(message, slot);
            }
            false => made.refused(400, "missing_payload"),
        }
    }

    /// Starts a task and works it off.
    async fn start(&mut self, task: Task, slot: usize) {
        self.drain().await;
        let Some(path) = self.endpoint(slot) else { return };
        let mut body = json!({"since": self.expected.now.minus(LONGEST).to_rfc3339()});
        let kind = match task {
            Task::Recover => "recover",
            Task::ReplayMissing => "replay-missing",
            Task::BulkReplay(replayed) => {
                body["eventTypes"] = json!(named('t', replayed.event_types));
                body["channel"] = json!(replayed.channel.map(|number| format!("c{number}")));
                (body["status"], body["statusCodeClass"]) = (json!(replayed.state), json!(replayed.class));
                "bulk-replay"
            }
        };
        self.api().post(&format!("{path}/{kind}"), body).await.expect(202);
        self.expected.start(task, slot);
        self.drain().await;
    }

    async fn expunge(&mut self, message: usize) {
        let Some(message) = self.message(message) else { return };
        let path = format!("{}/msg/{}/content", self.app, self.expected.messages[message].id);
        self.api().delete(&path).await.expect(204);
        self.expected.messages[message].has_content = false;
    }

    async fn wait(&mut self, seconds: u64) {
        self.drain().await;
        self.world.clock.advance(Duration::from_secs(seconds));
        self.expected.now = self.world.clock.now();
        self.drain().await;
    }

    /// Steps until nothing can be sent, and compares what has arrived.
    async fn drain(&mut self) {
        let mut requests = Vec::new();
        loop {
            let step = self.world.api.as_mut().expect("the process runs").rig.step().await;
            if step.taken_over > 0 {
                assert_eq!(self.expected.take_over(), step.taken_over, "rows of dead processes");
            }
            requests.extend(self.expected.step());
            self.show_reactions();
            if step.sent == 0 && !step.worked {
                break;
            }
        }
        self.compare_arrivals(requests);
        let queued = self.queued().await;
        self.expected.follow_jitter(|message, endpoint| {
            let named = |row: &&Queued| row.message == message && row.endpoint == endpoint && !row.is_manual;
            queued.iter().find(named).and_then(|row| row.due_at)
        });
        self.compare_queue(queued);
        self.compare_results().await;
    }

    async fn kill(&mut self, sending: bool) {
        let sends = self.expected.due();
        // A step may take over rows, and then sends these too.
        let sending = sending && sends > 0 && !self.expected.has_dead();
        let requests = self.expected.kill(sending);
        if sending {
            self.reactions.lock().expect("no panic").are_held = true;
            let wanted = self.seen + sends;
            let step = self.world.api.as_mut().expect("the process runs").rig.step();
            tokio::select! {
                _ = step => panic!("a step ends although no receiver has answered"),
                _ = self.receiver.wait_for(wanted) => {}
            }
            self.reactions.lock().expect("no panic").are_held = false;
            self.compare_arrivals(requests);
        }
        self.world.kill().await;
        if self.world.db.kind() == Kind::Sqlite {
            self.expected.take_over();
        }
    }
}
