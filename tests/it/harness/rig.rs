//! The queue without the API: a store, an intake and a dispatcher, on a test clock. A test steps the dispatcher by
//! hand, or lets it run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postrider::clock::Clock;
use postrider::dispatcher::{Dispatcher, LEASE_MARGIN, Settings, Step};
use postrider::domain::encryption_keys::EncryptionKeys;
use postrider::domain::id::Prefix;
use postrider::domain::secret::{Encryptor, EndpointSecret};
use postrider::domain::timestamp::Timestamp;
use postrider::error::Result;
use postrider::loops::Loops;
use postrider::slots::{Caps, Slots};
use postrider::store::intake::{Accepted, Intake, Limits, NewMessage, fast_path};
use postrider::store::{ANSWER_DEADLINE, Store};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement, Value};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{DEADLINE, KEY, Kind, TestDatabase};

pub const ORG: &str = "org_test";
pub const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
/// 2026-01-01T00:00:00Z.
pub const START: Timestamp = Timestamp(1_767_225_600_000_000);

/// How long history is kept.
const HISTORY: Duration = Duration::from_hours(180 * 24);

/// How long entries of the audit log are kept.
const AUDIT: Duration = Duration::from_hours(400 * 24);

/// The settings of a rig.
#[derive(Clone)]
pub struct Shape {
    pub clock: Clock,
    pub caps: Caps,
    pub attempt_timeout: Duration,
    pub schedule: &'static str,
    pub batch: usize,
    /// Networks to which webhooks may go in addition to the public ones.
    pub targets: &'static str,
    pub svix_headers: bool,
    /// The limit of endpoints per application.
    pub most_endpoints: u32,
    pub disable_after: Option<Duration>,
    /// The database's URL; `None` means the test database's own.
    pub url: Option<String>,
    /// Encryption keys, the current one first.
    pub keys: &'static [&'static str],
    /// How long an answer of Postgres may take.
    pub answer_deadline: Duration,
    /// The name server for receivers' names; `None` means the system's.
    pub name_server: Option<SocketAddr>,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            clock: Clock::test(START),
            caps: Caps {
                process: 64,
                endpoint: 16,
            },
            attempt_timeout: Duration::from_secs(5),
            schedule: "5,300",
            batch: 200,
            targets: "127.0.0.0/8",
            svix_headers: false,
            most_endpoints: 1000,
            disable_after: Some(Duration::from_secs(5 * 86_400)),
            url: None,
            keys: &[KEY],
            answer_deadline: ANSWER_DEADLINE,
            name_server: None,
        }
    }
}

impl Shape {
    fn keys(&self) -> EncryptionKeys {
        let mut keys = self.keys.iter().map(|key| Encryptor::new(key).unwrap());
        EncryptionKeys::new(keys.next().expect("a key"), keys.next())
    }
}

pub struct Rig {
    pub store: Store,
    pub clock: Clock,
    pub slots: Arc<Slots>,
    pub intake: Intake,
    pub db: DatabaseConnection,
    /// `None` while the dispatcher runs by itself.
    dispatcher: Option<Dispatcher>,
    loops: Loops,
}

/// A dispatcher that runs by itself.
pub struct Running {
    pub stop: CancellationToken,
    pub grace_over: CancellationToken,
    pub ended: JoinHandle<()>,
}

impl Running {
    /// Stops the dispatcher in order. Without `grace`, attempts in flight are given up at once.
    pub async fn stop(self, grace: bool) {
        self.stop.cancel();
        if !grace {
            self.grace_over.cancel();
        }
        tokio::time::timeout(DEADLINE, self.ended)
            .await
            .expect("a stop ends")
            .expect("the dispatcher does not panic");
    }
}

impl Rig {
    pub async fn on(db: &TestDatabase) -> Self {
        Self::shaped(db, Shape::default()).await
    }

    pub async fn shaped(db: &TestDatabase, shape: Shape) -> Self {
        let url = shape.url.as_deref().unwrap_or(db.url());
        let store = super::database::open_with(url, shape.clock.clone(), shape.answer_deadline)
            .await
            .expect("the store opens");
        store.unlock(shape.keys()).await.expect("the key is the database's");
        let slots = Slots::new(
            shape.caps,
            store.clock().clone(),
            store.metrics().clone(),
            store.due().clone(),
        );
        let (leases, fast) = fast_path(&shape.caps);
        let settings = Settings {
            attempt_timeout: shape.attempt_timeout,
            history: HISTORY,
            audit: AUDIT,
            schedule: shape.schedule.parse().unwrap(),
            targets: shape.targets.parse().unwrap(),
            svix_headers: shape.svix_headers,
            disable_after: shape.disable_after,
            name_server: shape.name_server,
        };
        let mut dispatcher = Dispatcher::new(&store, &slots, fast, settings).unwrap();
        dispatcher.start().await.expect("the dispatcher takes an owner id");
        let limits = Limits {
            members: shape.batch,
            lease: shape.attempt_timeout + LEASE_MARGIN,
        };
        let loops = Loops::default();
        let intake = Intake::start(&store, &slots, &leases, limits, &loops);
        Self {
            store,
            clock: shape.clock,
            slots,
            dispatcher: Some(dispatcher),
            intake,
            db: db.connect().await,
            loops,
        }
    }

    /// Ends as a killed process does: nothing is settled, released or signed off. The database is then free for another
    /// rig.
    pub async fn kill(self) {
        let Self {
            store,
            dispatcher,
            intake,
            loops,
            ..
        } = self;
        drop((dispatcher, intake));
        loops.wait().await;
        store.close().await;
    }

    pub async fn sql(&self, sql: &str, values: impl IntoIterator<Item = Value>) -> u64 {
        let statement = Statement::from_sql_and_values(self.db.get_database_backend(), sql, values);
        self.db.execute_raw(statement).await.expect(sql).rows_affected()
    }

    /// Inserts the application `app_NAME` with the uid `NAME-uid`, and returns its id.
    pub async fn application(&self, name: &str) -> String {
        let id = format!("app_{name}");
        let sql = "insert into application (id, org_id, uid, name, metadata, created_at, updated_at) \
                   values ($1, $2, $3, $1, '{}', 0, 0)";
        self.sql(sql, [id.as_str().into(), ORG.into(), format!("{name}-uid").into()])
            .await;
        id
    }

    /// Inserts the endpoint `ep_NAME`, which takes every message, and returns its id.
    pub async fn endpoint(&self, app: &str, name: &str, url: &str) -> String {
        let id = format!("ep_{name}");
        let sealed = self.seal(&id, SECRET);
        let sql = "insert into endpoint (app_id, id, url, description, disabled, metadata, headers, secrets, \
                   created_at, updated_at) values ($1, $2, $3, '', false, '{}', '{}', $4, 0, 0)";
        self.sql(
            sql,
            [
                app.into(),
                id.as_str().into(),
                url.into(),
                format!(r#"[{{"sealed":"{sealed}"}}]"#).into(),
            ],
        )
        .await;
        id
    }

    /// Inserts `count` endpoints that take every message and have no secret.
    pub async fn endpoints(&self, app: &str, count: i64, url: &str) {
        let sql = "with recursive n(n) as (select 1 union all select n + 1 from n where n < $3) \
                   insert into endpoint (app_id, id, url, description, disabled, metadata, headers, secrets, \
                   created_at, updated_at) select $1, 'ep_' || n, $2, '', false, '{}', '{}', '[]', 0, 0 from n";
        self.sql(sql, [app.into(), url.into(), count.into()]).await;
    }

    /// Makes the database refuse rows of `table` that satisfy `condition`, which names the table's columns.
    pub async fn refuse(&self, db: &TestDatabase, table: &str, condition: &str) {
        match db.kind() {
            Kind::Sqlite => {
                let sql = format!(
                    "create trigger refuse_{table} after insert on {table} when exists \
                     (select 1 from {table} where rowid = new.rowid and {condition}) begin select raise(abort, 'refused'); end"
                );
                self.sql(&sql, []).await;
            }
            Kind::Postgres => {
                let sql =
                    format!("alter table {table} add constraint refuse_{table} check (not ({condition})) not valid");
                self.sql(&sql, []).await;
            }
        }
    }

    /// Replaces the custom headers of an endpoint by the JSON object `headers`, without the checks of the API.
    pub async fn set_headers(&self, endpoint: &str, headers: &str) {
        let context = format!("{endpoint}/headers");
        let sealed = self.store.keys().unwrap().newest().seal(headers.as_bytes(), &context);
        let row = format!(r#"{{"sealed":"{sealed}"}}"#);
        let sql = "update endpoint set headers = $1 where id = $2";
        self.sql(sql, [row.into(), endpoint.into()]).await;
    }

    pub fn seal(&self, endpoint: &str, secret: &str) -> String {
        let secret = EndpointSecret::parse(secret).unwrap().to_private();
        self.store.keys().unwrap().newest().seal(secret.as_bytes(), endpoint)
    }

    pub fn message(&self, app: &str, body: &str) -> NewMessage {
        NewMessage {
            org_id: ORG.to_owned(),
            app: app.to_owned(),
            event_type: "order.created".to_owned(),
            event_id: None,
            channels: Vec::new(),
            tags: Vec::new(),
            body: body.to_owned(),
            content_type: None,
            only_to: None,
            retention: Duration::from_secs(90 * 86_400),
            key: None,
        }
    }

    /// Queues one more attempt of a message, as a resend does, and returns the delivery's id.
    pub async fn resend(&self, app: &str, message: &str, endpoint: &str) -> String {
        let id = self.clock.new_id(Prefix::Delivery);
        let sql = "insert into delivery (id, app_id, message_id, endpoint_id, trigger, attempts_made, due_at) \
                   values ($1, $2, $3, $4, 1, 0, $5)";
        let now = self.clock.now().0;
        self.sql(
            sql,
            [
                id.as_str().into(),
                app.into(),
                message.into(),
                endpoint.into(),
                now.into(),
            ],
        )
        .await;
        id
    }

    pub async fn accept(&self, app: &str, body: &str) -> Accepted {
        self.intake
            .accept(self.message(app, body))
            .await
            .expect("the message is accepted")
    }

    pub async fn step(&mut self) -> Step {
        self.try_step().await.expect("a step runs")
    }

    pub async fn try_step(&mut self) -> Result<Step> {
        self.dispatcher
            .as_mut()
            .expect("the dispatcher does not run by itself")
            .step()
            .await
    }

    /// Runs one turn of the janitor.
    pub async fn prune(&mut self) {
        let dispatcher = self.dispatcher.as_mut().expect("the dispatcher does not run by itself");
        dispatcher.prune().await.expect("the janitor's turn succeeds");
    }

    /// Writes the sums of attempts.
    pub async fn flush(&self) {
        self.try_flush().await.expect("the sums are written");
    }

    pub async fn try_flush(&self) -> Result<()> {
        let dispatcher = self.dispatcher.as_ref().expect("the dispatcher does not run by itself");
        dispatcher.flush().await
    }

    /// Lets the dispatcher run by itself from now on.
    pub fn run(&mut self) -> Running {
        let (stop, grace_over) = (CancellationToken::new(), CancellationToken::new());
        let dispatcher = self.dispatcher.take().expect("the dispatcher does not run yet");
        Running {
            ended: tokio::spawn(dispatcher.run(stop.clone(), grace_over.clone(), self.loops.group())),
            stop,
            grace_over,
        }
    }

    /// Steps until nothing can be sent and no background task has work now. Returns the number of attempts that were
    /// sent.
    pub async fn drain(&mut self) -> usize {
        let mut sent = 0;
        for _ in 0..10_000 {
            let step = self.step().await;
            if step.sent == 0 && !step.worked {
                return sent;
            }
            sent += step.sent;
        }
        panic!("the queue does not empty");
    }

    pub fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    pub async fn count(&self, from: &str) -> i64 {
        let sql = format!("select count(*) as n from {from}");
        let statement = Statement::from_string(self.db.get_database_backend(), sql);
        self.db
            .query_one_raw(statement)
            .await
            .unwrap()
            .unwrap()
            .try_get("", "n")
            .unwrap()
    }

    /// Returns the state of a message's single result: `delivered`, `waiting`, `failed`, or `none` if there is no
    /// result.
    pub async fn state(&self, message: &str) -> &'static str {
        let sql = "select state from delivery_result where message_id = $1";
        let statement = Statement::from_sql_and_values(self.db.get_database_backend(), sql, [message.into()]);
        match self
            .db
            .query_one_raw(statement)
            .await
            .unwrap()
            .map(|row| row.try_get::<i16>("", "state").unwrap())
        {
            None => "none",
            Some(0) => "delivered",
            Some(1) => "waiting",
            Some(_) => "failed",
        }
    }
}
