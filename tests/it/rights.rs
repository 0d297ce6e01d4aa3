//! The table of rights: every operation of the API document, called with every kind of token and role, for things of the
//! token's own, of another application and of another organization. tests/it/rights.md is what the table must be.

use std::fmt::Write;

use postrider::domain::role::Role;
use postrider::service::token::Grant;
use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::TestDatabase;

const EXPECTED: &str = include_str!("rights.md");

/// The columns: the roles of an organization's tokens, and the capabilities of an application's. `None` in place of
/// capabilities means a token that is not limited.
const ROLES: [Role; 4] = Role::ALL;
const LIMITS: [Option<&str>; 6] = [
    None,
    Some("ViewBase"),
    Some("ViewEndpointSecret"),
    Some("ManageEndpointSecret"),
    Some("CreateAttempts"),
    Some("ManageEndpoint"),
];

/// A row: an operation with a body.
struct Row {
    method: String,
    path: String,
    /// What sets this row apart from another one of the operation.
    note: &'static str,
    /// Whether the operation takes the general body, or none.
    takes_body: bool,
    roles: Vec<String>,
    capabilities: Option<Vec<String>>,
    /// Whether the description says that tokens of applications may call it.
    is_for_applications: bool,
}

impl Row {
    fn name(&self) -> String {
        format!("{} {}{}", self.method, self.path, self.note)
    }

    fn has(&self, parameters: &[&str]) -> bool {
        parameters.iter().any(|parameter| self.path.contains(parameter))
    }
}

const SWITCH: &str = ", `disabled` alone";

fn rows() -> Vec<Row> {
    let document: Value = serde_json::from_str(&postrider::api::document()).unwrap();
    let texts = |list: &Value| {
        let list = list.as_array()?;
        Some(
            list.iter()
                .map(|text| text.as_str().unwrap().to_owned())
                .collect::<Vec<_>>(),
        )
    };
    let mut all = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let Some(roles) = texts(&operation["x-roles"]) else {
                continue;
            };
            let notes: &[&str] = match operation["operationId"].as_str() {
                Some("v1.endpoint.patch") => &["", SWITCH],
                _ => &[""],
            };
            for note in notes {
                all.push(Row {
                    method: method.to_uppercase(),
                    path: path.strip_prefix("/api/v1").unwrap().to_owned(),
                    note,
                    takes_body: operation.get("requestBody").is_some(),
                    roles: roles.clone(),
                    capabilities: texts(&operation["x-capabilities"]),
                    is_for_applications: operation["description"]
                        .as_str()
                        .unwrap()
                        .contains("tokens of applications"),
                });
            }
        }
    }
    assert!(all.len() >= 60, "{}", all.len());
    all
}

/// One of everything that a path names.
#[derive(Clone)]
struct Things {
    app: String,
    endpoint: String,
    message: String,
    attempt: String,
    task: String,
    token: String,
    operational: String,
    event_type: String,
    poller: String,
    /// The id of a token of the poller, and the token.
    reader: (String, String),
}

struct World {
    api: Api,
    /// The organization's tokens, one for each role.
    own: Vec<String>,
    /// The tokens of the application of `things`, one for each of `LIMITS`.
    of_app: Vec<String>,
    things: Things,
    /// Counts names, so that none is taken twice.
    names: usize,
}

impl World {
    async fn on(db: &TestDatabase) -> Self {
        let api = Api::on(db).await;
        let mut own = Vec::new();
        for role in ROLES {
            let grant = Grant {
                role,
                ..Grant::default()
            };
            own.push(api.token(grant).await);
        }
        let things = things(&api, &api.token, "t").await;
        let of_app = tokens_of(&api, &things.app).await;
        Self {
            api,
            own,
            of_app,
            things,
            names: 0,
        }
    }

    /// Makes everything anew, because a call may have changed or deleted a part of it.
    async fn renew(&mut self) {
        self.things = things(&self.api, &self.api.token, "t").await;
        self.of_app = tokens_of(&self.api, &self.things.app).await;
    }

    fn tokens(&self) -> Vec<String> {
        [&self.own[..], &self.of_app, std::slice::from_ref(&self.things.reader.1)].concat()
    }

    /// Calls an operation for these things, and returns the status.
    async fn call(&mut self, row: &Row, token: &str, things: &Things) -> u16 {
        self.names += 1;
        let steps = row.path.split('/').map(|step| match step {
            "{app_id}" => &things.app,
            "{endpoint_id}" if row.path.starts_with("/operational") => &things.operational,
            "{endpoint_id}" => &things.endpoint,
            "{msg_id}" => &things.message,
            "{attempt_id}" => &things.attempt,
            "{task_id}" => &things.task,
            "{token_id}" if row.path.contains("/poller/") => &things.reader.0,
            "{token_id}" => &things.token,
            "{poller_id}" => &things.poller,
            "{consumer_id}" => "c",
            "{random}" => "trial-of-the-rights",
            "{event_type_name}" => &things.event_type,
            "find" => "find?q=nothing",
            fixed => {
                assert!(!fixed.starts_with('{'), "{fixed}");
                fixed
            }
        });
        let path = steps.collect::<Vec<_>>().join("/");
        let body = match (row.takes_body, row.note) {
            (false, _) => String::new(),
            (true, SWITCH) => json!({"disabled": false}).to_string(),
            (true, _) => json!({
                "name": format!("n{}", self.names), "description": "", "url": "http://127.0.0.1:9/", "headers": {},
                "eventType": "svix.ping", "payload": {}, "since": "2026-01-01T00:00:00Z", "role": "viewer",
                "after": "2026-01-01T00:00:00Z",
            })
            .to_string(),
        };
        self.api
            .call(token, &row.method, &path, &[], &body)
            .await
            .status
            .as_u16()
    }

    /// Returns the cells of a row for things of the tokens' own. After a write that was done everything is made anew.
    async fn own_cells(&mut self, row: &Row) -> Vec<u16> {
        let mut cells = Vec::new();
        for column in 0..self.tokens().len() {
            let (token, things) = (self.tokens()[column].clone(), self.things.clone());
            let status = self.call(row, &token, &things).await;
            if row.method != "GET" && status < 300 {
                self.renew().await;
            }
            cells.push(status);
        }
        cells
    }
}

/// Makes one of everything for the organization of `token`.
async fn things(api: &Api, token: &str, event_type: &str) -> Things {
    let make = async |method: &str, path: String, body: Value| {
        let made = api.call(token, method, &path, &[], &body.to_string()).await;
        assert!(made.status.is_success(), "{path}: {}", made.text);
        made
    };
    let app = make("POST", "/app".to_owned(), json!({"name": "app"}))
        .await
        .field("id");
    let body = json!({"url": "http://127.0.0.1:9/", "uid": "e"});
    let endpoint = make("POST", format!("/app/{app}/endpoint"), body.clone())
        .await
        .field("id");
    let operational = make("PUT", "/operational-webhook/endpoint/e".to_owned(), body).await;
    make("PUT", format!("/event-type/{event_type}"), json!({"description": ""})).await;
    let sent = json!({"eventType": event_type, "payload": {}});
    let message = make("POST", format!("/app/{app}/msg"), sent).await.field("id");
    let attempt = format!("atmpt_{}", &message["msg_".len()..]);
    let sql = "insert into attempt (app_id, message_id, id, endpoint_id, url, trigger, delivered, response_status, response, \
               duration_ms, created_at) values ($1, $2, $3, $4, '', 0, false, 500, '', 1, 0)";
    let values = [&app, &message, &attempt, &endpoint].map(|text| text.as_str().into());
    api.rig.sql(sql, values).await;
    let window = json!({"since": "2026-01-01T00:00:00Z"});
    let task = make("POST", format!("/app/{app}/endpoint/e/recover"), window)
        .await
        .field("id");
    let poller = make("POST", format!("/app/{app}/poller"), json!({})).await.field("id");
    let after = json!({"after": "2026-01-01T00:00:00Z"});
    make("POST", format!("/app/{app}/poller/{poller}/consumer/c/seek"), after).await;
    let reader = make(
        "POST",
        format!("/app/{app}/poller/{poller}/token"),
        json!({"name": "n"}),
    )
    .await;
    let made = make("POST", "/token".to_owned(), json!({"name": "n", "role": "sender"})).await;
    Things {
        app,
        endpoint,
        message,
        attempt,
        task,
        token: made.field("id"),
        operational: operational.field("id"),
        event_type: event_type.to_owned(),
        poller,
        reader: (reader.field("id"), reader.field("token")),
    }
}

/// Makes a token of the application for each of `LIMITS`.
async fn tokens_of(api: &Api, app: &str) -> Vec<String> {
    let mut all = Vec::new();
    for limit in LIMITS {
        let access = json!({"capabilities": limit.map(|capability| [capability])});
        all.push(
            api.post(&format!("/auth/app-portal-access/{app}"), access)
                .await
                .field("token"),
        );
    }
    all
}

fn heading(columns: &[String]) -> String {
    let mut text = format!("| operation | {} |\n", columns.join(" | "));
    let _ = writeln!(text, "|---{}|", "|---".repeat(columns.len()));
    text
}

fn line(row: &Row, cells: &[u16]) -> String {
    let cells: Vec<_> = cells.iter().map(u16::to_string).collect();
    format!(
        "| `{} {}`{} | {} |\n",
        row.method,
        row.path,
        row.note,
        cells.join(" | ")
    )
}

/// What the token of a poller may do.
const READS: [&str; 5] = [
    "GET /app/{app_id}/poller/{poller_id}",
    "GET /app/{app_id}/poller/{poller_id}/consumer/{consumer_id}",
    "POST /app/{app_id}/poller/{poller_id}/consumer/{consumer_id}/seek",
    "DELETE /app/{app_id}/poller/{poller_id}/consumer/{consumer_id}",
    "POST /auth/logout",
];

/// Asserts that the tokens that get 403 are those that the document does not name.
fn check_own(row: &Row, cells: &[u16]) {
    for (role, status) in ROLES.iter().zip(cells) {
        let is_partial = row.path.ends_with("/endpoint/{endpoint_id}") && row.method == "PATCH" && row.note.is_empty();
        let may = row.roles.iter().any(|named| named == role.name()) && !(is_partial && *role == Role::Operator);
        assert_eq!(may, *status != 403, "{} as {}: {status}", row.name(), role.name());
    }
    for (limit, status) in LIMITS.iter().zip(&cells[ROLES.len()..]) {
        let named = |limit: &str| {
            row.capabilities
                .as_ref()
                .is_none_or(|list| list.iter().any(|name| name == limit))
        };
        let may = row.is_for_applications && limit.is_none_or(named);
        assert_eq!(may, *status != 403, "{} with {limit:?}: {status}", row.name());
    }
    let reads = READS.contains(&row.name().as_str());
    assert_eq!(
        reads,
        cells.last() != Some(&403),
        "{} with a token of the poller",
        row.name()
    );
    for status in cells {
        assert!([200, 201, 202, 204, 403].contains(status), "{}: {status}", row.name());
    }
}

/// Returns the table for things of the tokens' own.
async fn own_table(world: &mut World, rows: &[Row]) -> String {
    let mut text = String::new();
    for row in rows {
        let cells = world.own_cells(row).await;
        check_own(row, &cells);
        text += &line(row, &cells);
    }
    text
}

/// Returns the table for things that are not the tokens' own, with the columns from `first` on. Nothing is found.
async fn foreign_table(world: &mut World, rows: &[Row], stranger: &str, foreign: &Things, first: usize) -> String {
    let mut text = String::new();
    for row in rows {
        let mut cells = Vec::new();
        for token in &world.tokens()[first..] {
            let mut things = foreign.clone();
            if row.path.contains("{event_type_name}") {
                // One for each call: an organization may have an event type of the same name.
                things.event_type = format!("theirs{}", world.names);
                let body = json!({"name": things.event_type, "description": ""}).to_string();
                let made = world.api.call(stranger, "POST", "/event-type", &[], &body).await;
                made.expect(201);
            }
            let status = world.call(row, token, &things).await;
            let creates = row.method == "PUT" && status == 201;
            assert!(creates || [403, 404].contains(&status), "{}: {status}", row.name());
            cells.push(status);
        }
        text += &line(row, &cells);
    }
    text
}

/// Returns what a token of their organization sees of things.
async fn seen(api: &Api, token: &str, things: &Things) -> Vec<Value> {
    let app = format!("/app/{}", things.app);
    let mut all = Vec::new();
    for path in [
        app.clone(),
        format!("{app}/endpoint/{}", things.endpoint),
        format!("{app}/endpoint/{}/secret", things.endpoint),
        format!("{app}/poller/{}/settings", things.poller),
        format!("{app}/poller/{}/secret", things.poller),
        format!("{app}/poller/{}/token", things.poller),
        format!("{app}/poller/{}/consumer", things.poller),
        format!("{app}/msg/{}", things.message),
        format!("{app}/msg/{}/attempt/{}", things.message, things.attempt),
        format!("/background-task/{}", things.task),
        format!("/token/{}", things.token),
        format!("/operational-webhook/endpoint/{}", things.operational),
        format!("/event-type/{}", things.event_type),
    ] {
        all.push(api.call(token, "GET", &path, &[], "").await.expect(200).clone());
    }
    all
}

both!(every_token_may_do_what_the_table_says, async |db| {
    let mut world = World::on(db).await;
    let rows = rows();
    let roles = ROLES.iter().map(|role| role.name().to_owned());
    let limits = LIMITS
        .iter()
        .map(|limit| limit.map_or("application".to_owned(), |name| format!("`{name}`")));
    let columns: Vec<_> = roles.chain(limits).chain(["of the poller".to_owned()]).collect();
    let mut text = String::from(INTRODUCTION);
    text += &format!("\n## Things of its own\n\n{}", heading(&columns));
    text += &own_table(&mut world, &rows).await;

    let (of_apps, of_organizations) = (["{app_id}", "{task_id}"], ["{"]);
    let named = |parameters: &[&str]| {
        let all = self::rows().into_iter();
        // What came to the trial receiver is no organization's: who knows the random text reads it.
        all.filter(|row| row.has(parameters) && !row.has(&["{random}"]))
            .collect::<Vec<_>>()
    };
    let other = things(&world.api, &world.api.token, "t").await;
    let before = seen(&world.api, &world.api.token, &other).await;
    text += &format!(
        "\n## Things of another application\n\n{}",
        heading(&columns[ROLES.len()..])
    );
    let stranger = world.api.stranger().await;
    text += &foreign_table(&mut world, &named(&of_apps), &stranger, &other, ROLES.len()).await;
    assert_eq!(
        seen(&world.api, &world.api.token, &other).await,
        before,
        "nothing of it has changed"
    );

    let foreign = things(&world.api, &stranger, "u").await;
    let before = seen(&world.api, &stranger, &foreign).await;
    text += &format!("\n## Things of another organization\n\n{}", heading(&columns));
    text += &foreign_table(&mut world, &named(&of_organizations), &stranger, &foreign, 0).await;
    assert_eq!(
        seen(&world.api, &stranger, &foreign).await,
        before,
        "nothing of them has changed"
    );

    let made = format!("{}/rights.md", env!("CARGO_TARGET_TMPDIR"));
    std::fs::write(&made, &text).expect("the table is written");
    let same = text == EXPECTED;
    assert!(
        same,
        "the table in tests/it/rights.md is another one; read each difference: diff tests/it/rights.md {made}"
    );
});

const INTRODUCTION: &str = "\
# What each token may do

`tests/it/rights.rs` makes these tables from the API document: it calls each operation that needs a token, with each
kind of token, and writes down the status. The first columns are the roles of an organization's tokens; `application` is
an application's token that is not limited, and those after it are limited to one capability. The last is a token that
reads one poller.

- 200 to 204: done.
- 403: the token may not do this, whether the thing exists or not.
- 404: there is no such thing for this token.
- 201 for a thing of another organization: a PUT has made a new one of the token's own.
";
