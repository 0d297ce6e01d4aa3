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

/// Adds the times of all calls to `figures`. `busy` is the id of the application with many endpoints, which is the oldest
/// one.
pub async fn time(replica: &Replica, busy: &str, figures: &mut Figures) -> Result<(), Failure> {
    // The newest application was made to make the organization, and has no messages.
    let newest = nth(replica, "/api/v1/app?limit=2&order=descending", 1).await?;
    let app = text(&newest, "id");
    let message = nth(replica, &format!("/api/v1/app/{app}/msg?limit=2"), 1).await?;
    let event = text(&message, "eventId");
    let message = text(&message, "id");
    let attempt = nth(replica, &format!("/api/v1/app/{app}/attempt/msg/{message}"), 0).await?;
    let endpoint = text(&attempt, "endpointId");
    let find = |what: &str| format!("/api/v1/find?q={what}");
    let delivery = |query: &str| format!("/api/v1/app/{busy}/delivery?limit=50{query}");
    for (name, path) in [
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
    ] {
        let (median, longest) = timed(replica, &path).await?;
        figures.add(format!("{name}_p50_ms"), median);
        figures.add(format!("{name}_max_ms"), longest);
    }
    Ok(())
}

/// Makes a call several times. Returns the median of its times and the longest one, in milliseconds.
async fn timed(replica: &Replica, path: &str) -> Result<(f64, f64), Failure> {
    let mut times = Vec::with_capacity(CALLS);
    for _ in 0..CALLS {
        let began = Instant::now();
        replica.server.call("GET", path, &Value::Null).await?;
        times.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok((times[CALLS / 2], times[CALLS - 1]))
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
