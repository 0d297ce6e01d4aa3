//! Records the exact text of the statements that the store sends, taken from the driver's log, and asks a database for
//! its plan of such a text without known values.

use std::sync::{Mutex, OnceLock};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Span, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

use super::database::rows;

/// The name of the span that marks one recording's events: many tests share the process.
const SPAN: &str = "recorded statements";

/// The recorded statements, each with the id of its recording's span.
static STATEMENTS: Mutex<Vec<(u64, String)>> = Mutex::new(Vec::new());

/// Runs `work` on a thread of its own. Returns its result and the statements that were sent by it and by the tasks that
/// it started.
pub fn recorded<T: Send>(work: impl AsyncFnOnce() -> T + Send) -> (T, Vec<String>) {
    static LISTENING: OnceLock<()> = OnceLock::new();
    LISTENING.get_or_init(listen);
    let alone = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let span = tracing::info_span!(SPAN);
        // The thread enters the span, not a task: statements of every task on this thread are recorded.
        let done = span.in_scope(|| runtime.expect("a runtime can be built").block_on(work()));
        (done, sent_in(&span))
    };
    std::thread::scope(|threads| threads.spawn(alone).join().expect("the work does not panic"))
}

/// Removes and returns the statements of the recording that `span` marks.
fn sent_in(span: &Span) -> Vec<String> {
    let id = span.id().expect("the span is listened to").into_u64();
    let mut all = STATEMENTS.lock().expect("no panic under this lock");
    all.extract_if(.., |(recording, _)| *recording == id)
        .map(|(_, sql)| sql)
        .collect()
}

fn listen() {
    let wanted = Targets::new()
        .with_target("sqlx::query", LevelFilter::DEBUG)
        .with_target(module_path!(), LevelFilter::INFO);
    let subscriber = tracing_subscriber::registry().with(Recorder.with_filter(wanted));
    tracing::subscriber::set_global_default(subscriber).expect("no test sets a global log");
}

struct Recorder;

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let scope = context.event_scope(event).into_iter().flatten();
        let Some(span) = scope.into_iter().find(|span| span.name() == SPAN) else {
            return;
        };
        let mut text = Text::default();
        event.record(&mut text);
        let sql = if text.statement.is_empty() {
            text.summary
        } else {
            text.statement
        };
        let mut all = STATEMENTS.lock().expect("no panic under this lock");
        all.push((span.id().into_u64(), sql.trim().to_owned()));
    }
}

/// The fields of one log event. The driver logs a short statement only as its summary.
#[derive(Default)]
struct Text {
    summary: String,
    statement: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "summary" => value.clone_into(&mut self.summary),
            "db.statement" => value.clone_into(&mut self.statement),
            _ => {}
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn std::fmt::Debug) {}
}

/// Returns the plan that a database makes for `sql` without knowing the values, one step per line. A step that reads a
/// whole table or index begins with `full scan`.
pub async fn plan(on: &DatabaseConnection, sql: &str) -> Vec<String> {
    match on.get_database_backend() {
        DbBackend::Sqlite => sqlite_plan(on, sql).await,
        _ => postgres_plan(on, sql).await,
    }
}

async fn sqlite_plan(on: &DatabaseConnection, sql: &str) -> Vec<String> {
    let steps = rows(on, &format!("explain query plan {sql}")).await;
    let steps: Vec<String> = steps
        .iter()
        .map(|row| row.try_get("", "detail").expect("a step"))
        .collect();
    // A scan of a subquery's result reads no table.
    let is_subquery = |name: &str| {
        ["CO-ROUTINE", "MATERIALIZE"]
            .iter()
            .any(|step| steps.contains(&format!("{step} {name}")))
    };
    let is_full_scan = |step: &str| match step.strip_prefix("SCAN ") {
        Some(source) if source.contains("VIRTUAL TABLE") || source == "CONSTANT ROW" => false,
        Some(source) => !is_subquery(source.split(' ').next().unwrap_or_default()),
        None => false,
    };
    let mark = |step: &String| {
        if is_full_scan(step) {
            format!("full scan: {step}")
        } else {
            step.clone()
        }
    };
    steps.iter().map(mark).collect()
}

/// Prepares the statement as the driver does and returns its generic plan, which fits any values.
async fn postgres_plan(on: &DatabaseConnection, sql: &str) -> Vec<String> {
    on.execute_unprepared("set plan_cache_mode = force_generic_plan")
        .await
        .expect("a setting");
    on.execute_unprepared(&format!("prepare planned as {sql}"))
        .await
        .unwrap_or_else(|err| panic!("{sql}: {err}"));
    let count = "select cardinality(parameter_types) as count from pg_prepared_statements where name = 'planned'";
    let count: i32 = rows(on, count).await[0].try_get("", "count").expect("a number");
    let values = if count == 0 {
        String::new()
    } else {
        format!("({})", vec!["null"; count as usize].join(", "))
    };
    let explained = rows(on, &format!("explain (format json, costs off) execute planned{values}")).await;
    on.execute_unprepared("deallocate planned")
        .await
        .expect("the statement was prepared");
    let json: Value = explained[0].try_get_by_index(0).expect("a plan");
    let mut steps = Vec::new();
    walk(&json[0]["Plan"], 0, &mut steps);
    steps
}

fn walk(node: &Value, depth: usize, steps: &mut Vec<String>) {
    let text = |name: &str| node[name].as_str().unwrap_or_default();
    let kind = text("Node Type");
    // "Index Scan", "Index Only Scan", "Bitmap Index Scan".
    let whole_index = kind.contains("Index") && node["Index Cond"].is_null();
    let mark = if kind == "Seq Scan" || whole_index {
        "full scan: "
    } else {
        ""
    };
    let on = [text("Index Name"), text("Relation Name"), text("Alias")].join(" ");
    let by = node["Index Cond"].as_str().map(|condition| format!(" by {condition}"));
    steps.push(format!(
        "{mark}{}{kind} {}{}",
        "  ".repeat(depth),
        on.trim(),
        by.unwrap_or_default()
    ));
    for child in node["Plans"].as_array().into_iter().flatten() {
        walk(child, depth + 1, steps);
    }
}

#[test]
fn a_whole_index_is_a_full_scan_however_it_is_read() {
    let step = |node: Value| {
        let mut steps = Vec::new();
        walk(&node, 0, &mut steps);
        steps.concat()
    };
    for kind in ["Index Scan", "Index Only Scan", "Bitmap Index Scan"] {
        let whole = step(serde_json::json!({"Node Type": kind, "Index Name": "i"}));
        assert!(whole.starts_with("full scan: "), "{whole}");
        let part = step(serde_json::json!({"Node Type": kind, "Index Name": "i", "Index Cond": "(due_at <= $1)"}));
        assert!(part.starts_with(kind), "{part}");
    }
}
