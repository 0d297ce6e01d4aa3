//! Adds the examples in examples.json to the API document.
//!
//! Each operation has a request that succeeds after `app seed`, and the response to it; each refusal has a body. A test
//! makes every one of these requests.
//!
//! Must not contain an example: examples.json does.

use serde_json::{Map, Value};

const EXAMPLES: &str = include_str!("examples.json");

/// Adds the examples to every operation of the document.
pub(crate) fn add(document: &mut Value) {
    let examples: Value = serde_json::from_str(EXAMPLES).expect("examples.json is JSON");
    let paths = document["paths"].as_object_mut().into_iter().flat_map(Map::values_mut);
    for (_, operation) in paths.filter_map(Value::as_object_mut).flatten() {
        add_to(operation, &examples);
    }
}

fn add_to(operation: &mut Value, examples: &Value) {
    let own = examples["operations"][operation["operationId"].as_str().unwrap_or_default()].clone();
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for parameter in parameters.into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap_or_default();
        let general = examples["path"].get(name).filter(|_| parameter["in"] == "path");
        if let Some(example) = own["parameters"].get(name).or(general) {
            parameter["example"] = example.clone();
        }
    }
    if let (Some(content), Some(body)) = (
        operation.pointer_mut("/requestBody/content/application~1json"),
        own.get("body"),
    ) {
        content["example"] = body.clone();
    }
    let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
    for (status, response) in responses.into_iter().flatten() {
        let example = own.get(status).or_else(|| examples["refusals"].get(status));
        if let (Some(content), Some(example)) = (response.pointer_mut("/content/application~1json"), example) {
            content["example"] = example.clone();
        }
    }
}
