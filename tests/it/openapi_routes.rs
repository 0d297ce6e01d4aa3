//! The table of routes in openapi/README.md: it has every operation of the document and no wrong row, and every test
//! that it names exists.

use std::collections::BTreeSet;
use std::path::Path;

use poem::Request;
use serde_json::Value;

use crate::api::Api;

const TABLE: &str = include_str!("../../openapi/README.md");

/// Returns the cells of the table rows that follow a heading or a sentence.
fn rows(after: &str) -> Vec<Vec<&'static str>> {
    let (_, rest) = TABLE.split_once(after).expect(after);
    let lines = rest.lines().skip_while(|line| !line.starts_with("|---"));
    let lines = lines.skip(1).take_while(|line| line.starts_with('|'));
    lines
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect()
}

fn routes() -> Vec<Vec<&'static str>> {
    rows("## Routes")
}

/// Returns the texts between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// Returns the operations of the document, as `METHOD /path`.
fn operations() -> BTreeSet<String> {
    let document: Value = serde_json::from_str(&postrider::api::document()).expect("JSON");
    let paths = document["paths"].as_object().unwrap();
    let each = paths.iter().flat_map(|(path, methods)| {
        let path = path.strip_prefix("/api/v1").unwrap();
        let methods = methods.as_object().unwrap().keys();
        methods.map(move |method| format!("{} {path}", method.to_uppercase()))
    });
    each.collect()
}

#[test]
fn the_table_has_every_operation_of_the_document_as_served_and_no_other() {
    let served: Vec<_> = routes().into_iter().filter(|row| row[2] == "served").collect();
    let named: BTreeSet<_> = served
        .iter()
        .flat_map(|row| quoted(row[1]))
        .map(str::to_owned)
        .collect();
    assert_eq!(named, operations(), "left: the table, right: the document");
    assert_eq!(named.len(), served.len(), "each operation has one row");
}

#[test]
fn every_test_that_the_table_names_is_there() {
    let tests = routes().into_iter().map(|row| row[3]);
    let tests = tests.chain(rows("What has no route of its own").into_iter().map(|row| row[1]));
    for cell in tests {
        assert!(!quoted(cell).is_empty(), "a row names no test: {cell}");
        for name in quoted(cell) {
            let (file, test) = name.split_once("::").expect(name);
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/{file}.rs"));
            let mut text = std::fs::read_to_string(path).expect(name);
            text.retain(|c| !c.is_whitespace());
            let forms = [
                format!("both!({test},"),
                format!("only!({test},"),
                format!("#[test]fn{test}()"),
            ];
            assert!(forms.iter().any(|form| text.contains(form)), "{name}");
        }
    }
}

both!(what_the_table_calls_501_answers_so, async |db| {
    let api = Api::on(db).await;
    let hosted: Vec<_> = routes().into_iter().filter(|row| row[2].starts_with("501")).collect();
    assert!(hosted.len() >= 18, "{}", hosted.len());
    for route in hosted.iter().flat_map(|row| quoted(row[1])) {
        // A row without a method stands for all methods.
        let (methods, path) = match route.split_once(' ') {
            Some((method, path)) => (vec![method], path),
            None => (vec!["GET", "POST", "PUT", "PATCH", "DELETE"], route),
        };
        let path = path.replace("{}", "x").replace('*', "x");
        let path = if path.contains("/api/v1/") {
            path
        } else {
            format!("/api/v1{path}")
        };
        for method in methods {
            let request = Request::builder().method(method.parse().unwrap()).uri_str(&path);
            let answer = api.send(request.finish()).await;
            assert_eq!(answer.json["code"], "not_implemented", "{method} {path}");
            answer.expect(501);
        }
    }
});
