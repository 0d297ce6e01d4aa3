//! Leaves of the refusals that `Read` and `Write` list those which an operation can answer, by what it takes: a token of
//! which kind, a query, a body. Must not: know single routes. Called by openapi.

use serde_json::{Value, json};

use crate::api::auth::{ORGANIZATION, SCHEME};
use crate::api::wire::error::NOT_OF_ITS_TYPE;
use crate::domain::capability::{self, Capability};

const LIMITED: &str = "The token is one of an application that is limited to other things.";

/// What an operation takes.
struct Takes {
    token: bool,
    /// The token must be an organization's.
    organization: bool,
    /// A token that may only read is refused.
    limited: bool,
    /// A query parameter that must be of a type.
    typed_query: bool,
    /// A query parameter with a rule besides its type.
    ruled_query: bool,
    body: bool,
    /// The body has a name that another thing may have, or comes with a key that another body may have had.
    conflicts: bool,
}

pub(crate) fn prune(document: &mut Value) {
    let schemas = document["components"]["schemas"].clone();
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    let operations = paths.flat_map(|(path, methods)| {
        let methods = methods.as_object_mut().into_iter().flatten();
        methods.map(move |(method, operation)| (path, method, operation))
    });
    for (path, method, operation) in operations {
        let takes = Takes::of(path, method, operation, &schemas);
        if takes.organization {
            operation["security"] = json!([{SCHEME: []}]);
        }
        if let Some(responses) = operation["responses"].as_object_mut() {
            responses.retain(|status, response| takes.may_answer(status, response));
            if let Some(forbidden) = responses.get_mut("403").filter(|_| !takes.organization) {
                forbidden["description"] = LIMITED.into();
            }
        }
    }
}

impl Takes {
    fn of(route: &str, method: &str, operation: &Value, schemas: &Value) -> Self {
        let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        let query: Vec<_> = parameters.iter().filter(|it| it["in"] == "query").collect();
        let is_free_text = |it: &Value| it["type"] == "string" && it["format"].is_null();
        let has_rules = |it: &Value| is_free_text(it) || it["type"] == "integer" || it["type"] == "array";
        let body = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        let body = body.as_str().and_then(|it| it.rsplit('/').next());
        let has = |field: &str| body.is_some_and(|name| !schemas[name]["properties"][field].is_null());
        let security = &operation["security"][0];
        Self {
            token: security.is_object(),
            organization: !security[ORGANIZATION].is_null(),
            limited: !capability::allows(&[Capability::ViewBase], method == "get", route),
            typed_query: query
                .iter()
                .any(|it| !is_free_text(&it["schema"]) && it["schema"]["type"] != "array"),
            ruled_query: query.iter().any(|it| has_rules(&it["schema"])),
            body: body.is_some(),
            conflicts: has("uid") || has("eventId") || (method == "post" && body.is_some()),
        }
    }

    fn may_answer(&self, status: &str, response: &Value) -> bool {
        match status {
            // One that says why is the handler's own.
            "400" => self.typed_query || response["description"] != NOT_OF_ITS_TYPE,
            // Once an application is deleted, its token finds nothing.
            "401" | "404" => self.token,
            "403" => self.organization || (self.token && self.limited),
            "408" | "413" => self.body,
            "409" => self.conflicts,
            "422" => self.body || self.ruled_query,
            _ => true,
        }
    }
}
