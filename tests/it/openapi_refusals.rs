//! The documented refusals of each operation: it responds with each refusal that the document lists for it, and with no
//! other. Each has the code of its status and names the place or the reason.

use std::collections::BTreeSet;
use std::time::Duration;

use poem::Body;
use postrider::domain::role::Role;
use postrider::service::token::Grant;
use serde_json::Value;

use crate::api::{Answer, Api};

/// The operation that takes a code in place of a token.
const SESSION: &str = "/auth/console-session";

/// An operation of the API document.
struct Operation {
    method: String,
    /// The path below `/api/v1`.
    path: String,
    json: Value,
}

impl Operation {
    fn all() -> Vec<Self> {
        let document: Value = serde_json::from_str(&postrider::api::document()).expect("JSON");
        let paths = document["paths"].as_object().unwrap();
        let each = paths.iter().flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap();
            methods.iter().map(|(method, json)| Self {
                method: method.to_uppercase(),
                path: path.strip_prefix("/api/v1").unwrap().to_owned(),
                json: json.clone(),
            })
        });
        each.collect()
    }

    fn lists(&self, status: u16) -> bool {
        !self.json["responses"][status.to_string()].is_null()
    }

    fn has_body(&self) -> bool {
        !self.json["requestBody"].is_null()
    }

    /// Returns the path with `name` in place of each parameter.
    fn at(&self, name: &str) -> String {
        let steps = self.path.split('/');
        let filled = steps.map(|step| if step.starts_with('{') { name } else { step });
        filled.collect::<Vec<_>>().join("/")
    }

    /// Returns the names of the query parameters whose schema satisfies `of`.
    fn query(&self, of: impl Fn(&Value) -> bool) -> Vec<&str> {
        let parameters = self.json["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        let query = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "query" && of(&parameter["schema"]));
        query.map(|parameter| parameter["name"].as_str().unwrap()).collect()
    }

    /// Returns whether a query parameter must be given.
    fn has_required_query(&self) -> bool {
        let parameters = self.json["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        parameters
            .iter()
            .any(|parameter| parameter["in"] == "query" && parameter["required"] == true)
    }

    /// Returns the possible values of a query parameter, if its type is an enumeration.
    fn values_of(&self, name: &str) -> Vec<String> {
        let parameters = self.json["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        let named = parameters
            .iter()
            .find(|parameter| parameter["name"] == name)
            .expect("the parameter exists");
        let Some(schema) = named["schema"]["$ref"]
            .as_str()
            .and_then(|reference| reference.rsplit('/').next())
        else {
            return Vec::new();
        };
        let document: Value = serde_json::from_str(&postrider::api::document()).expect("JSON");
        let values = document["components"]["schemas"][schema]["enum"].as_array().cloned();
        let values = values
            .unwrap_or_default()
            .into_iter()
            .filter(|_| schema != "BackgroundTaskType");
        values.filter_map(|value| value.as_str().map(str::to_owned)).collect()
    }

    async fn answer(&self, api: &Api, token: &str, path: &str) -> Answer {
        let body = match self.has_body() {
            // It is the code that is refused with 401, so there must be one.
            true if self.path == SESSION => r#"{"code": "none"}"#,
            true => "{}",
            false => "",
        };
        well_formed(api.call(token, &self.method, path, &[], body).await)
    }
}

/// The statuses that have the same code for every operation. Other statuses have one of several codes.
const CODES: [(u16, &str); 6] = [
    (401, "authentication_failed"),
    (403, "insufficient access"),
    (404, "not_found"),
    (408, "request_timeout"),
    (413, "payload_too_large"),
    (422, "validation_error"),
];

/// Asserts that the body of a refusal fits its status, and returns the response.
fn well_formed(answer: Answer) -> Answer {
    let status = answer.status.as_u16();
    if status < 400 {
        return answer;
    }
    let code = answer.field("code");
    let expected = CODES.iter().find(|(of, _)| *of == status).map(|(_, code)| *code);
    assert_eq!(code, expected.unwrap_or(&code), "{}", answer.text);
    assert!(!code.is_empty(), "{}", answer.text);
    if status == 422 {
        let rules = answer.json["detail"].as_array().expect("a list");
        assert!(!rules.is_empty(), "{}", answer.text);
        for rule in rules {
            let text = |name: &str| rule[name].as_str().is_some_and(|text| !text.is_empty());
            assert!(text("msg") && text("type"), "{}", answer.text);
            let place = rule["loc"].as_array().expect("a list").iter().map(Value::as_str);
            let place: Vec<&str> = place.collect::<Option<_>>().expect("of texts");
            let begins = place.first().expect("of one text or more");
            assert!(["body", "path", "query", "header"].contains(begins), "{}", answer.text);
        }
    } else {
        answer.refused(status, &code);
    }
    answer
}

/// The operations that were refused with the status, and the operations that document it.
#[derive(Debug, Default)]
struct Refused(BTreeSet<String>, BTreeSet<String>);

impl Refused {
    fn note(&mut self, operation: &Operation, answered: &Answer, status: u16) {
        self.note_as(operation, answered.status.as_u16(), status);
    }

    fn note_as(&mut self, operation: &Operation, answered: u16, status: u16) {
        let name = format!("{} {}", operation.method, operation.path);
        if answered == status {
            self.0.insert(name.clone());
        }
        if operation.lists(status) {
            self.1.insert(name);
        }
    }

    #[track_caller]
    fn check(self) {
        assert_eq!(self.0, self.1, "left: refused so, right: documented so");
        assert!(!self.0.is_empty());
    }
}

async fn role(api: &Api, role: Role) -> String {
    let grant = Grant {
        role,
        ..Grant::default()
    };
    api.token(grant).await
}

both!(
    a_missing_token_is_401_and_a_narrow_one_403_where_the_document_says_so,
    async |db| {
        let api = Api::on(db).await;
        let app = api.application("one").await;
        let (mut missing, mut forbidden) = (Refused::default(), Refused::default());
        for operation in Operation::all() {
            let path = operation.at(&app);
            missing.note(&operation, &operation.answer(&api, "none", &path).await, 401);
            // New tokens for each operation, because one operation ends the token with which it is called.
            let narrow = api.token_of(&app).await;
            let access = serde_json::json!({"readOnly": true});
            let limited = api.post(&format!("/auth/app-portal-access/{app}"), access).await;
            let (sender, viewer) = (role(&api, Role::Sender).await, role(&api, Role::Viewer).await);
            for token in [narrow, limited.field("token"), sender, viewer] {
                forbidden.note(&operation, &operation.answer(&api, &token, &path).await, 403);
            }
        }
        missing.check();
        forbidden.check();
    }
);

both!(an_unknown_thing_is_404_where_the_document_says_so, async |db| {
    let api = Api::on(db).await;
    let app = api.application("gone").await;
    let orphan = api.token_of(&app).await;
    api.delete(&format!("/app/{app}")).await.expect(204);
    let mut unknown = Refused::default();
    for operation in Operation::all() {
        let named = operation.answer(&api, &api.token, &operation.at("%FF")).await;
        let owned = operation.answer(&api, &orphan, &operation.at(&app)).await;
        unknown.note(&operation, if named.status == 404 { &named } else { &owned }, 404);
    }
    unknown.check();
});

both!(
    a_large_body_is_413_and_a_slow_one_408_where_the_document_says_so,
    async |db| {
        let api = Api::with_body_deadline(db, Duration::from_millis(50)).await;
        let app = api.application("one").await;
        let (mut large, mut slow) = (Refused::default(), Refused::default());
        for operation in Operation::all() {
            let request = || api.request(&operation.method, &operation.at(&app));
            let body = Body::from_vec(vec![b' '; 3 << 20]);
            large.note(&operation, &well_formed(api.send(request().body(body)).await), 413);
            let never = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
            let body = Body::from_bytes_stream(never);
            slow.note(&operation, &well_formed(api.send(request().body(body)).await), 408);
        }
        large.check();
        slow.check();
    }
);

both!(
    a_query_of_the_wrong_type_is_400_and_a_broken_rule_422_where_the_document_says_so,
    async |db| {
        let api = Api::on(db).await;
        let app = api.application("one").await;
        let (mut untyped, mut broken) = (Refused::default(), Refused::default());
        for operation in Operation::all() {
            let path = operation.at(&app);
            let is_text = |schema: &Value| schema["type"] == "string" && schema["format"].is_null();
            let typed = operation.query(|schema| !is_text(schema) && schema["type"] != "array");
            for name in &typed {
                let answered = operation
                    .answer(&api, &api.token, &format!("{path}?{name}=x%20x"))
                    .await;
                println!("{} {path}: {name}", operation.method);
                answered.refused(400, "generic_error");
                let detail = answered.field("detail");
                assert!(detail.contains(&format!("`{name}` must be ")), "{name}: {detail}");
                for value in operation.values_of(name) {
                    assert!(detail.contains(&value), "{name} may be {value}: {detail}");
                }
            }
            let own = operation.json["responses"]["400"]["description"]
                .as_str()
                .is_some_and(|text| text.contains("`code`"));
            let lacks = operation.has_required_query();
            if lacks {
                let answered = operation.answer(&api, &api.token, &path).await;
                answered.refused(400, "generic_error");
            }
            let refused = own || lacks || !typed.is_empty();
            untyped.note_as(&operation, if refused { 400 } else { 0 }, 400);

            let mut answers = Vec::new();
            if operation.has_body() {
                let listed = api.call(&api.token, &operation.method, &path, &[], "[]").await;
                listed.breaks_rule_at("body");
                assert_eq!(listed.json["detail"][0]["type"], "value_error.jsondecode");
                answers.push(listed.status);
            }
            let texts = operation.query(is_text).into_iter().map(|name| (name, "%00"));
            let integers = operation.query(|schema| schema["type"] == "integer");
            for (name, value) in texts.chain(integers.into_iter().map(|name| (name, "-1"))) {
                let path = format!("{path}?{name}={value}");
                let answer = operation.answer(&api, &api.token, &path).await;
                if answer.status == 422 {
                    println!("{} {path}", operation.method);
                    answer.breaks_rule_at(&format!("query.{name}"));
                }
                answers.push(answer.status);
            }
            let any = answers.iter().any(|status| *status == 422);
            broken.note_as(&operation, if any { 422 } else { 0 }, 422);
        }
        untyped.check();
        broken.check();
    }
);

#[test]
fn a_conflict_409_is_listed_for_operations_that_set_a_name_or_take_a_key_and_a_body() {
    for operation in Operation::all() {
        // A token may be the last one of an admin.
        if operation.lists(409) && operation.path != "/token/{token_id}" {
            assert!(operation.has_body(), "{} {}", operation.method, operation.path);
        }
        if operation.method == "POST" && operation.path != SESSION {
            assert_eq!(operation.lists(409), operation.has_body(), "{}", operation.path);
        }
        assert!(!operation.lists(429), "the API has no such limit");
    }
    let create = |path: &str| {
        Operation::all()
            .into_iter()
            .find(|operation| operation.method == "POST" && operation.path == path)
    };
    for path in ["/app", "/event-type", "/app/{app_id}/endpoint", "/app/{app_id}/msg"] {
        assert!(create(path).unwrap().lists(409), "{path}");
    }
}
