//! Removes the documented errors that an operation cannot return, judged by its inputs: kind of token, query, body.
//!
//! `Read`, `Write` and `Conditional` list all errors that reads and writes may return. Must not know single routes.

use serde_json::Value;

use super::access;
use crate::api::rights::{self, Needs};
use crate::api::wire::error::{NO_TOKEN_TEXT, NOT_OF_ITS_TYPE, TAKEN};

/// The inputs of an operation, as far as they decide which errors it can return.
struct Takes {
    /// The right that its token needs. `None` means that it takes no token.
    needs: Option<Needs>,
    /// It has a query parameter that must be given, or one of a type other than free text: then a value may not be of its
    /// type.
    typed_query: bool,
    /// It has a query parameter with a rule besides its type.
    ruled_query: bool,
    /// It has a body.
    body: bool,
    /// The body has a name that may be taken, or its idempotency key may have come with another body before.
    conflicts: bool,
}

/// Removes from every operation the errors that it cannot return, and replaces the mark of its rights.
// From what an operation takes and not from a list at each handler: lists drift. openapi_refusals.rs asks each
// operation for the refusals that it lists and for those that it does not list.
pub(crate) fn prune(document: &mut Value) {
    let schemas = document["components"]["schemas"].clone();
    let paths = document["paths"].as_object_mut().into_iter().flatten();
    let operations = paths.flat_map(|(_, methods)| methods.as_object_mut().into_iter().flatten());
    for (method, operation) in operations {
        let takes = Takes::of(method, operation, &schemas);
        if let Some(responses) = operation["responses"].as_object_mut() {
            responses.retain(|status, response| takes.may_answer(status, response));
            if let (Some(refusal), Some(needs)) = (responses.get_mut("403"), takes.needs) {
                refusal["description"] = access::forbidden(needs).into();
            }
        }
        if let Some(needs) = takes.needs {
            access::describe(operation, needs);
        }
    }
}

impl Takes {
    /// Reads the inputs of an operation from the document.
    fn of(method: &str, operation: &Value, schemas: &Value) -> Self {
        let parameters = operation["parameters"].as_array().map_or(&[][..], Vec::as_slice);
        let query: Vec<_> = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "query")
            .collect();
        let is_free_text = |schema: &Value| schema["type"] == "string" && schema["format"].is_null();
        let has_rules =
            |schema: &Value| is_free_text(schema) || schema["type"] == "integer" || schema["type"] == "array";
        let body = &operation["requestBody"]["content"]["application/json"]["schema"]["$ref"];
        let body = body.as_str().and_then(|reference| reference.rsplit('/').next());
        let has = |field: &str| body.is_some_and(|name| !schemas[name]["properties"][field].is_null());
        let security = operation["security"][0].as_object();
        let mark = security.and_then(|security| security.keys().next());
        Self {
            needs: mark.and_then(|mark| rights::read(mark)),
            typed_query: query.iter().any(|parameter| {
                let schema = &parameter["schema"];
                parameter["required"] == true || !is_free_text(schema) && schema["type"] != "array"
            }),
            ruled_query: query.iter().any(|parameter| has_rules(&parameter["schema"])),
            body: body.is_some(),
            conflicts: has("uid") || has("eventId") || (method == "post" && body.is_some()),
        }
    }

    /// Returns whether an operation with these inputs can return this documented error.
    fn may_answer(&self, status: &str, response: &Value) -> bool {
        match status {
            // Any other description means that the handler itself returns 400.
            "400" => self.typed_query || response["description"] != NOT_OF_ITS_TYPE,
            // 404 also without a path: the token of a deleted application finds nothing.
            // 403 too: there is a role for each that may not do it.
            "403" | "404" => self.needs.is_some(),
            // Any other description means that the handler itself returns 401.
            "401" => self.needs.is_some() || response["description"] != NO_TOKEN_TEXT,
            "408" | "413" => self.body,
            // Any other description means that the handler itself returns 409.
            "409" => self.conflicts || response["description"] != TAKEN,
            "422" => self.body || self.ruled_query,
            _ => true,
        }
    }
}
