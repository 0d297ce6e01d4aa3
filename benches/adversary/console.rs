//! The calls that a console makes, and how long they take.
//!
//! Must not know how the history was made, except for the names that it gave.

use super::report::Figures;
use super::site::Replica;
use crate::Failure;
use serde_json::Value;
use std::time::Instant;

/// How often each call is made.
const CALLS: usize = 20;

/// A call: its name in the figures, and its path.
pub type Call = (&'static str, String);

/// Adds the times of all calls to `figures`. `busy` is the id of the application with many endpoints, which is the oldest
/// one.
pub async fn time(replica: &Replica, busy: &str, figures: &mut Figures) -> Result<(), Failure> {
    for (name, path) in calls(replica, busy).await? {
        let mut times = Vec::with_capacity(CALLS);
        for _ in 0..CALLS {
            times.push(once(replica, &path).await?);
        }
        times.sort_by(f64::total_cmp);
        figures.add(format!("{name}_p50_ms"), times[CALLS / 2]);
        figures.add(format!("{name}_max_ms"), times[CALLS - 1]);
    }
    Ok(())
}

/// Returns the calls of a console, and the first pages of all lists.
pub async fn calls(replica: &Replica, busy: &str) -> Result<Vec<Call>, Failure> {
    // The newest application was made to make the organization, and has no messages.
    let newest = nth(replica, "/api/v1/app?limit=2&order=descending", 1).await?;
    let app = text(&newest, "id");
    let message = nth(replica, &format!("/api/v1/app/{app}/msg?limit=2"), 1).await?;
    let event = text(&message, "eventId");
    let message = text(&message, "id");
    let attempt = nth(replica, &format!("/api/v1/app/{app}/attempt/msg/{message}"), 0).await?;
    let endpoint = text(&attempt, "endpointId");
    // Found by a list that does not depend on how many attempts the endpoint has.
    let of_busy = nth(replica, &format!("/api/v1/app/{busy}/endpoint?limit=2"), 1).await?;
    let busy_endpoint = text(&of_busy, "id");
    let find = |what: &str| format!("/api/v1/find?q={what}");
    let delivery = |query: &str| format!("/api/v1/app/{busy}/delivery?limit=50{query}");
    Ok(vec![
        (
            "statistics_of_250_endpoints",
            format!("/api/v1/stats/delivery?by=endpoint&app_id={busy}&limit=250"),
        ),
        (
            "statistics_of_250_applications",
            "/api/v1/stats/delivery?by=application&limit=250".to_owned(),
        ),
        ("statistics_of_the_organization", "/api/v1/stats/delivery".to_owned()),
        (
            "failing_endpoints",
            "/api/v1/endpoint-health?state=failing&limit=250".to_owned(),
        ),
        (
            "disabled_endpoints",
            "/api/v1/endpoint-health?state=disabled&limit=250".to_owned(),
        ),
        (
            "slow_endpoints",
            "/api/v1/endpoint-health?state=slow&limit=250".to_owned(),
        ),
        ("queue", "/api/v1/queue".to_owned()),
        ("deliveries", delivery("")),
        ("deliveries_delivered", delivery("&state=delivered")),
        ("deliveries_waiting", delivery("&state=waiting")),
        ("deliveries_failed", delivery("&state=failed")),
        ("deliveries_sending", delivery("&state=sending")),
        ("find_application", find(app)),
        ("find_application_by_uid", find("customer-7")),
        ("find_endpoint", find(endpoint)),
        ("find_endpoint_by_uid", find("endpoint-300")),
        ("find_message", find(message)),
        ("find_attempt", find(text(&attempt, "id"))),
        ("find_event", find(event)),
        ("find_tag", find("order-77")),
        ("find_nothing", find("nothing-like-this")),
        ("applications", "/api/v1/app?limit=50".to_owned()),
        ("endpoints", format!("/api/v1/app/{busy}/endpoint?limit=50")),
        ("messages", format!("/api/v1/app/{busy}/msg?limit=50")),
        (
            "messages_of_a_type",
            format!("/api/v1/app/{busy}/msg?limit=50&event_types=invoice.paid"),
        ),
        (
            "messages_with_a_tag",
            format!("/api/v1/app/{busy}/msg?limit=5&tag=order-77"),
        ),
        (
            "messages_of_an_endpoint",
            format!("/api/v1/app/{busy}/endpoint/{busy_endpoint}/msg?limit=5"),
        ),
        (
            "attempts_of_an_endpoint",
            format!("/api/v1/app/{busy}/attempt/endpoint/{busy_endpoint}?limit=5"),
        ),
        (
            "failed_attempts_of_an_endpoint",
            format!("/api/v1/app/{app}/attempt/endpoint/{endpoint}?limit=5&status=2"),
        ),
        (
            "attempts_of_a_message",
            format!("/api/v1/app/{app}/attempt/msg/{message}?limit=50"),
        ),
        (
            "endpoints_of_a_message",
            format!("/api/v1/app/{app}/msg/{message}/endpoint?limit=50"),
        ),
        (
            "statistics_of_an_endpoint",
            format!("/api/v1/app/{busy}/endpoint/{busy_endpoint}/stats"),
        ),
        ("event_types", "/api/v1/event-type?limit=50".to_owned()),
        ("background_tasks", "/api/v1/background-task?limit=50".to_owned()),
        ("audit", "/api/v1/audit?limit=50".to_owned()),
        ("tokens", "/api/v1/token?limit=50".to_owned()),
    ])
}

/// Makes a call, and returns how long it took in milliseconds.
pub async fn once(replica: &Replica, path: &str) -> Result<f64, Failure> {
    let began = Instant::now();
    replica.server.call("GET", path, &Value::Null).await?;
    Ok(began.elapsed().as_secs_f64() * 1_000.0)
}

/// Returns the row of a list at `index`.
///
/// # Errors
/// The list is shorter.
async fn nth(replica: &Replica, path: &str, index: usize) -> Result<Value, Failure> {
    let mut list = replica.server.call("GET", path, &Value::Null).await?;
    match list["data"].as_array_mut().filter(|rows| rows.len() > index) {
        Some(rows) => Ok(rows.swap_remove(index)),
        None => Err(format!("GET {path}: too short").into()),
    }
}

fn text<'v>(row: &'v Value, field: &str) -> &'v str {
    row[field].as_str().unwrap_or_default()
}
