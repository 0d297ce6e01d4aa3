//! The real binary under `kill -9`: at each numbered step of a message's life, at random moments, and with two
//! processes of which one dies or is suspended. Every message that was answered with 202 arrives, and no stored result
//! is wrong.
//!
//! `POSTRIDER_CRASH_ROUNDS=N` runs N times as many rounds as CI does.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sea_orm::DatabaseConnection;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::harness::{
    Answer, Arrival, Caller, DEADLINE, Gate, Patience, Program, Receiver, Serving, TestDatabase, random, rows, within,
};

pub const TOKEN: &str = "a-token-for-tests-of-the-operator's-own";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// Points at which a debug build can be made to die, each with the number of the pass at which it does.
const POINTS: [&str; 6] = [
    "accepted.before_commit:3",
    "accepted.after_commit:2",
    "claimed:2",
    "sent.before_settle:4",
    "settle.before_commit:1",
    "settle.after_commit:3",
];
const RANDOM_KILLS: usize = 6;
const SENDERS: usize = 8;
/// Senders pause while so many accepted deliveries have not arrived, so that the end of the test stays short.
const UNDER_WAY: usize = 300;
/// The longest time until deliveries in flight of a dead process are sent again.
const SENT_AGAIN_IN: Duration = Duration::from_secs(5);

fn rounds() -> usize {
    std::env::var("POSTRIDER_CRASH_ROUNDS")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1)
}

/// Returns a program with few slots, so that there are leased, due and parked rows at any moment.
pub fn program(db: &TestDatabase) -> Program {
    Program::on(db.url())
        .env("POSTRIDER_ADMIN_TOKEN", TOKEN)
        .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8")
        .env("POSTRIDER_RETRY_SCHEDULE", "1,1,1,1,1,1,1,1")
        .env("POSTRIDER_ATTEMPT_TIMEOUT", "60")
        .env("POSTRIDER_CONCURRENCY", "12")
        .env("POSTRIDER_ENDPOINT_CONCURRENCY", "8")
}

/// Creates one application with endpoints at the receiver's paths `/1`, `/2` and so on.
pub async fn subscribe(server: &str, receiver: &Receiver, endpoints: usize) {
    let caller = Caller::new(TOKEN);
    caller
        .make(server, "/app", json!({"name": "shop", "uid": "shop"}))
        .await;
    for number in 1..=endpoints {
        let endpoint = json!({"url": receiver.url_of(&format!("/{number}")), "secret": SECRET});
        caller.make(server, "/app/shop/endpoint", endpoint).await;
    }
}

pub fn message(number: usize) -> Value {
    json!({"eventType": "order.created", "eventId": format!("event-{number}"), "payload": {"number": number}})
}

/// Senders that post messages one after the other, each until it is answered with 202, to the processes that serve at
/// the moment.
struct Load {
    /// The addresses of the processes that serve now.
    servers: watch::Sender<Vec<String>>,
    accepted: Arc<Mutex<BTreeMap<usize, String>>>,
    stop: Arc<AtomicBool>,
    senders: JoinSet<()>,
}

impl Load {
    fn start(arrived: &Arc<AtomicUsize>, endpoints: usize) -> Self {
        let mut load = Self {
            servers: watch::Sender::new(Vec::new()),
            accepted: Arc::default(),
            stop: Arc::default(),
            senders: JoinSet::new(),
        };
        let next = Arc::new(AtomicUsize::new(0));
        for _ in 0..SENDERS {
            let (servers, accepted, stop) = (load.servers.subscribe(), load.accepted.clone(), load.stop.clone());
            let (next, arrived, caller) = (next.clone(), arrived.clone(), Caller::new(TOKEN));
            load.senders.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    let expected = accepted.lock().expect("no panic").len() * endpoints;
                    if expected > arrived.load(Ordering::Relaxed) + UNDER_WAY {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                        continue;
                    }
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let id = post(&caller, servers.clone(), number).await;
                    accepted.lock().expect("no panic").insert(number, id);
                }
            });
        }
        load
    }

    fn serve_at<'a>(&self, servers: impl IntoIterator<Item = &'a Serving>) {
        self.servers
            .send_replace(servers.into_iter().map(Serving::url).collect());
    }

    fn count(&self) -> usize {
        self.accepted.lock().expect("no panic").len()
    }

    /// Waits until `count` more messages have been accepted.
    async fn accept_more(&self, count: usize) {
        let wanted = self.count() + count;
        within(DEADLINE, "messages are accepted", async || {
            (self.count() >= wanted).then_some(())
        })
        .await;
    }

    /// Ends the senders, each after its last message was accepted. Returns the messages' ids by number.
    async fn end(mut self) -> BTreeMap<usize, String> {
        self.stop.store(true, Ordering::Relaxed);
        let ending = async {
            while self
                .senders
                .join_next()
                .await
                .transpose()
                .expect("no sender panics")
                .is_some()
            {}
        };
        tokio::time::timeout(DEADLINE, ending)
            .await
            .expect("every message is answered with 202 in the end");
        self.accepted.lock().expect("no panic").clone()
    }
}

/// Posts one message, always with the same idempotency key, until it is answered with 202. Returns its id.
async fn post(caller: &Caller, mut servers: watch::Receiver<Vec<String>>, number: usize) -> String {
    let (body, key) = (message(number), format!("key-{number}"));
    loop {
        let now = servers.borrow_and_update().clone();
        let server = match now.is_empty() {
            true => None,
            false => now.get(number % now.len()).cloned(),
        };
        let answer = match server {
            Some(server) => caller.post(&server, "/app/shop/msg", &key, &body).await,
            None => Err("no process serves".to_owned()),
        };
        match answer {
            Ok((202, made)) => return made["id"].as_str().expect("an id").to_owned(),
            Ok((503, _)) | Err(_) => {
                let _ = tokio::time::timeout(Duration::from_millis(50), servers.changed()).await;
            }
            Ok((status, body)) => panic!("message {number} was answered {status}: {body}"),
        }
    }
}

/// Makes the receiver answer after 3 ms, and refuse some deliveries once. Returns a counter of the deliveries that it
/// has answered with 200.
fn answer_mostly(receiver: &Receiver) -> Arc<AtomicUsize> {
    let pairs = Arc::new(AtomicUsize::new(0));
    let counter = pairs.clone();
    let (refused, arrived) = (Mutex::new(HashSet::new()), Mutex::new(HashSet::new()));
    receiver.answer_by(move |arrival| {
        let id = arrival.message_id().to_owned();
        let once = is_refused_once(&arrival.path, &payload_of(arrival));
        let status = if once && refused.lock().expect("no panic").insert(id.clone()) {
            500
        } else {
            200
        };
        if status == 200 && arrived.lock().expect("no panic").insert((id, arrival.path.clone())) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        Answer::status(status).after(Duration::from_millis(3))
    });
    pairs
}

/// Returns whether the receiver refuses this delivery once: every fifth message at the second endpoint.
fn is_refused_once(path: &str, payload: &Value) -> bool {
    path == "/2"
        && payload["number"]
            .as_u64()
            .is_some_and(|number| number.is_multiple_of(5))
}

pub fn payload_of(arrival: &Arrival) -> Value {
    serde_json::from_str(arrival.text()).expect("the body is JSON")
}

/// The message's id and the endpoint's path.
type Pair = (String, String);

/// Returns how often each message arrived at each endpoint. Asserts that all arrivals have the right payload and
/// signature, and that every accepted message arrived at every endpoint.
fn arrivals_by_pair(receiver: &Receiver, accepted: &BTreeMap<usize, String>, endpoints: usize) -> HashMap<Pair, usize> {
    let numbers: HashMap<&str, usize> = accepted.iter().map(|(number, id)| (id.as_str(), *number)).collect();
    let mut arrivals = HashMap::new();
    for arrival in receiver.arrivals() {
        let id = arrival.message_id().to_owned();
        let number = numbers.get(id.as_str()).expect("only accepted messages arrive");
        assert_eq!(payload_of(&arrival), message(*number)["payload"], "the payload of {id}");
        assert!(arrival.is_signed_with(SECRET), "{id} is signed");
        *arrivals.entry((id, arrival.path)).or_default() += 1;
    }
    for id in accepted.values() {
        for number in 1..=endpoints {
            let pair = (id.clone(), format!("/{number}"));
            assert!(
                arrivals.contains_key(&pair),
                "answered 202, but did not arrive: {pair:?}"
            );
        }
    }
    arrivals
}

/// Waits until nothing is left to send, then checks every row that the messages have left behind.
pub async fn everything_arrived(
    db: &TestDatabase,
    receiver: &Receiver,
    accepted: &BTreeMap<usize, String>,
    endpoints: usize,
) {
    let connection = db.connect().await;
    // The deadline is shorter than any lease.
    let mut patience = Patience::of(DEADLINE);
    while count(&connection, "delivery").await > 0 {
        assert!(
            !patience.is_over().await,
            "left unsent: {}",
            what_is_left(&connection).await
        );
    }
    let arrivals = arrivals_by_pair(receiver, accepted, endpoints);
    println!(
        "{} messages, {} pairs, {} arrivals",
        accepted.len(),
        arrivals.len(),
        receiver.count()
    );

    let (messages, pairs) = (accepted.len() as i64, (accepted.len() * endpoints) as i64);
    assert_eq!(
        count(&connection, "message").await,
        messages,
        "each message is stored once, however often it was posted"
    );
    assert_eq!(count(&connection, "delivery_result").await, pairs);
    assert_eq!(
        count(&connection, "delivery_result where state = 0").await,
        pairs,
        "every message is delivered at every endpoint"
    );

    let failed = rows(
        &connection,
        "select message_id, url, response from attempt where not delivered",
    )
    .await;
    for row in failed {
        let text = |name| row.try_get::<String>("", name).expect("a text");
        let (id, path, answer) = (
            text("message_id"),
            text("url").replace(&receiver.url_of(""), ""),
            text("response"),
        );
        let number = accepted
            .iter()
            .find(|(_, accepted)| **accepted == id)
            .map(|(number, _)| *number);
        let payload = &message(number.expect("of an accepted message"))["payload"];
        assert!(
            is_refused_once(&path, payload),
            "{id} at {path} failed without a reason: {answer}"
        );
    }

    let sql = "select a.message_id, e.url, count(case when a.delivered then 1 end) as good,
                      count(case when not a.delivered then 1 end) as bad
               from attempt a join endpoint e on e.app_id = a.app_id and e.id = a.endpoint_id
               group by a.message_id, e.url";
    let attempts = rows(&connection, sql).await;
    assert_eq!(
        attempts.len() as i64,
        pairs,
        "every message has attempts at every endpoint"
    );
    let numbers: HashMap<&str, usize> = accepted.iter().map(|(number, id)| (id.as_str(), *number)).collect();
    for row in attempts {
        let text = |name| row.try_get::<String>("", name).expect("a text");
        let number = |name| row.try_get::<i64>("", name).expect("a number") as usize;
        let (id, path) = (text("message_id"), text("url").replace(&receiver.url_of(""), ""));
        let (good, bad) = (number("good"), number("bad"));
        let refused = usize::from(is_refused_once(&path, &message(numbers[id.as_str()])["payload"]));
        let arrived = arrivals[&(id, path)];
        assert!(
            good >= 1 && bad <= refused,
            "{good} successes, {bad} failures, {refused} refused"
        );
        assert!(
            good + bad <= arrived,
            "{good} successes and {bad} failures recorded, {arrived} arrived"
        );
    }
}

/// Counts the queue's rows: parked, due or waiting, leased, and leased by an unknown process.
async fn what_is_left(connection: &DatabaseConnection) -> String {
    let parts = [
        "due_at is null",
        "due_at is not null and owner is null",
        "owner is not null",
        "owner is not null and owner not in (select owner from process)",
    ];
    let mut counts = Vec::new();
    for part in parts {
        counts.push(count(connection, &format!("delivery where {part}")).await);
    }
    format!("parked, due, leased, leased by an unknown process: {counts:?}")
}

pub async fn count(connection: &DatabaseConnection, from: &str) -> i64 {
    let found = rows(connection, &format!("select count(*) as n from {from}")).await;
    found[0].try_get("", "n").expect("a number")
}

// One process after the other, each killed: at the crash points, then at random moments.
both!(
    every_message_answered_202_arrives_although_the_process_is_killed,
    async |db| {
        let _timed = Timed::start();
        let receiver = Receiver::start().await;
        let arrived = answer_mostly(&receiver);
        let program = program(db);
        let mut serving = program.serve().await;
        subscribe(&serving.url(), &receiver, 2).await;
        assert_eq!(serving.stop().await, Some(0));

        let load = Load::start(&arrived, 2);
        for _ in 0..rounds() {
            for point in POINTS {
                let mut serving = program.clone().env("POSTRIDER_CRASH_POINT", point).serve().await;
                load.serve_at([&serving]);
                assert_eq!(
                    serving.end().await,
                    None,
                    "the process died at {point}: {}",
                    serving.stderr()
                );
            }
            for _ in 0..RANDOM_KILLS {
                let mut serving = program.serve().await;
                load.serve_at([&serving]);
                load.accept_more(1 + random(60) as usize).await;
                tokio::time::sleep(Duration::from_micros(random(20_000))).await;
                serving.signal("KILL");
                serving.end().await;
            }
        }
        let mut serving = program.serve().await;
        load.serve_at([&serving]);
        load.accept_more(20).await;
        let accepted = load.end().await;
        everything_arrived(db, &receiver, &accepted, 2).await;
        assert_eq!(serving.stop().await, Some(0), "{}", serving.stderr());
    }
);

// Two processes run all the time, and they are killed in turns.
postgres_only!(
    every_message_arrives_although_two_processes_are_killed_in_turns,
    async |db| {
        let _timed = Timed::start();
        let receiver = Receiver::start().await;
        let arrived = answer_mostly(&receiver);
        let program = program(db);
        let mut servings = [program.serve().await, program.serve().await];
        subscribe(&servings[0].url(), &receiver, 2).await;

        let load = Load::start(&arrived, 2);
        load.serve_at(&servings);
        for round in 0..RANDOM_KILLS * rounds() {
            load.accept_more(1 + random(60) as usize).await;
            let victim = &mut servings[round % 2];
            victim.signal("KILL");
            victim.end().await;
            *victim = program.serve().await;
            load.serve_at(&servings);
        }
        load.accept_more(20).await;
        let accepted = load.end().await;
        everything_arrived(db, &receiver, &accepted, 2).await;
    }
);

/// Posts a message to the process `server`, which sends it itself, and returns the message's id.
pub async fn post_to(server: &Serving, number: usize) -> String {
    let servers = watch::Sender::new(vec![server.url()]);
    post(&Caller::new(TOKEN), servers.subscribe(), number).await
}

/// Lets `server` send five messages that are never answered. Returns how many requests have arrived by then.
async fn in_flight(server: &Serving, receiver: &Receiver, ids: &mut BTreeMap<usize, String>) -> usize {
    receiver.answer(Answer::hang());
    let before = receiver.count();
    for _ in 0..5 {
        let number = ids.len();
        ids.insert(number, post_to(server, number).await);
    }
    receiver.wait_for(before + 5).await;
    receiver.answer(Answer::ok());
    before + 5
}

/// Prints at the end of a test how long it took.
struct Timed(Instant);

impl Timed {
    fn start() -> Self {
        Self(Instant::now())
    }
}

impl Drop for Timed {
    fn drop(&mut self) {
        println!("the test took {:?}", self.0.elapsed());
    }
}

/// Returns how long after `since` the last of the five messages has arrived again. Ignores the first `before` requests.
async fn sent_again(receiver: &Receiver, before: usize, since: Instant) -> Duration {
    let arrivals = receiver.wait_for(before + 5).await;
    let waits = arrivals[before..]
        .iter()
        .map(|arrival| arrival.at.duration_since(since));
    waits.max().expect("five of them")
}

/// Asserts that one of at most three waits is short enough. A machine that is busy with other tests can only lengthen a
/// wait, and the rule for a dead process alone takes four and a half of the 5 s.
async fn is_soon_enough(mut wait: impl AsyncFnMut() -> Duration) {
    let mut waits = Vec::new();
    while waits.len() < 3 {
        waits.push(wait().await);
        if waits.last().is_some_and(|wait| *wait <= SENT_AGAIN_IN) {
            return;
        }
    }
    panic!("sent again after {waits:?}");
}

postgres_only!(
    what_a_killed_process_had_in_flight_is_sent_by_the_other_within_5_s,
    async |db| {
        let _timed = Timed::start();
        let receiver = Receiver::start().await;
        let program = program(db);
        let second = program.serve().await;
        subscribe(&second.url(), &receiver, 1).await;
        let mut ids = BTreeMap::new();
        is_soon_enough(async || {
            let mut first = program.serve().await;
            let before = in_flight(&first, &receiver, &mut ids).await;
            first.signal("KILL");
            let wait = sent_again(&receiver, before, Instant::now()).await;
            first.end().await;
            println!("sent again after {wait:?}");
            wait
        })
        .await;
        everything_arrived(db, &receiver, &ids, 1).await;
    }
);

both!(
    what_a_killed_process_had_in_flight_is_sent_within_5_s_of_a_restart,
    async |db| {
        let _timed = Timed::start();
        let receiver = Receiver::start().await;
        let program = program(db);
        let mut serving = program.serve().await;
        subscribe(&serving.url(), &receiver, 1).await;
        let mut ids = BTreeMap::new();
        is_soon_enough(async || {
            let before = in_flight(&serving, &receiver, &mut ids).await;
            serving.signal("KILL");
            serving.end().await;
            // The time of the start itself counts too.
            let restarted = Instant::now();
            serving = program.serve().await;
            let served = restarted.elapsed();
            let wait = sent_again(&receiver, before, restarted).await;
            println!("the process served after {served:?} and had sent everything again after {wait:?}");
            wait
        })
        .await;
        everything_arrived(db, &receiver, &ids, 1).await;
    }
);

/// Lets a process wake to a late answer: the first process sends and is suspended, the second takes over and sends
/// again. Once `settled` attempts are recorded the first wakes and gets its answer. Returns when that is recorded too.
async fn a_sleeper_wakes(
    db: &TestDatabase,
    late: Answer,
    meanwhile: Answer,
    settled: i64,
) -> (Receiver, [Serving; 2], DatabaseConnection) {
    let receiver = Receiver::start().await;
    let program = program(db).env("POSTRIDER_RETRY_SCHEDULE", "3600");
    let servings = [program.serve().await, program.serve().await];
    subscribe(&servings[0].url(), &receiver, 1).await;

    let gate = Gate::closed();
    receiver.answer_next([late.behind(&gate), meanwhile]);
    post_to(&servings[0], 0).await;
    receiver.wait_for(1).await;
    servings[0].signal("STOP");
    receiver.wait_for(2).await;
    let connection = db.connect().await;
    becomes(&connection, "attempt", settled).await;
    gate.open();
    servings[0].signal("CONT");
    becomes(&connection, "attempt", settled + 1).await;
    (receiver, servings, connection)
}

async fn becomes(connection: &DatabaseConnection, from: &str, wanted: i64) {
    let goal = format!("{wanted} rows of {from}");
    within(DEADLINE, &goal, async || {
        (count(connection, from).await == wanted).then_some(())
    })
    .await;
}

postgres_only!(a_late_failure_of_a_process_that_slept_changes_nothing, async |db| {
    let (receiver, servings, connection) = a_sleeper_wakes(db, Answer::status(500), Answer::ok(), 1).await;
    assert_eq!(
        count(&connection, "delivery_result where state = 0").await,
        1,
        "the message stays delivered"
    );
    assert_eq!(count(&connection, "delivery").await, 0, "no retry is scheduled");
    assert_eq!(count(&connection, "attempt where delivered").await, 1);
    post_to(&servings[0], 1).await;
    receiver.wait_for(3).await;
    becomes(&connection, "delivery_result where state = 0", 2).await;
});

postgres_only!(a_late_failure_uses_up_no_retry, async |db| {
    let late = Answer::status(500);
    let (_receiver, _servings, connection) = a_sleeper_wakes(db, late, Answer::status(500), 1).await;
    assert_eq!(
        count(&connection, "delivery where attempts_made = 1 and owner is null").await,
        1,
        "one attempt counts"
    );
    assert_eq!(
        count(&connection, "delivery_result where state = 1").await,
        1,
        "a retry waits"
    );
});

postgres_only!(a_late_failure_leaves_the_other_process_its_lease, async |db| {
    let sending = Gate::closed();
    let meanwhile = Answer::ok().behind(&sending);
    let (receiver, _servings, connection) = a_sleeper_wakes(db, Answer::status(500), meanwhile, 0).await;
    assert_eq!(
        count(&connection, "delivery where attempts_made = 0 and owner is not null").await,
        1,
        "the delivery is still leased"
    );
    sending.open();
    becomes(&connection, "delivery_result where state = 0", 1).await;
    becomes(&connection, "delivery", 0).await;
    assert_eq!(receiver.count(), 2);
});

postgres_only!(a_late_success_of_a_process_that_slept_ends_the_retries, async |db| {
    let (receiver, _servings, connection) = a_sleeper_wakes(db, Answer::ok(), Answer::status(500), 1).await;
    assert_eq!(
        count(&connection, "delivery_result where state = 0").await,
        1,
        "the message is delivered"
    );
    assert_eq!(count(&connection, "delivery").await, 0, "the retry that waited is gone");
    assert_eq!(receiver.count(), 2);
});
