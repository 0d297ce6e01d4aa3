//! Probes and metrics: what a process reports of itself and counts, and on which listener.

use std::sync::Arc;
use std::time::Duration;

use poem::test::TestClient;
use postrider::api::{Probes, probe_routes};
use postrider::clock::Clock;
use postrider::domain::timestamp::Timestamp;
use postrider::store::queue::{Depth, find_depth, find_parked_depth};
use sea_orm::{ConnAcquireErr, ConnectionTrait, DbErr};
use serde_json::json;

use crate::api::Api;
use crate::harness::{Answer, Caller, DEADLINE, Program, Proxy, Receiver, Rig, Serving, Shape, TestDatabase, within};

const OPERATOR: &str = "a-token-of-the-operator";

/// Requests a probe and returns the status and the body.
async fn ask(probes: &Arc<Probes>, path: &str) -> (u16, String) {
    let answer = TestClient::new(probe_routes(probes)).get(path).send().await;
    let status = answer.0.status().as_u16();
    (status, answer.0.into_body().into_string().await.expect("text"))
}

/// Returns the value of a sample, which is given by its name with its labels.
pub fn value(page: &str, sample: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(&format!("{sample} ")));
    let line = line.unwrap_or_else(|| panic!("no sample {sample} in\n{page}"));
    line.parse().expect("a number")
}

pub async fn page(rig: &Rig) -> String {
    let (status, page) = ask(&Probes::new(&rig.store), "/metrics").await;
    assert_eq!(status, 200);
    page
}

both!(a_message_s_life_is_counted, async |db| {
    let receiver = Receiver::start().await;
    receiver.answer_next([Answer::status(500), Answer::status(404)]);
    let rig = &mut Rig::on(db).await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &receiver.url()).await;
    rig.accept(&app, r#"{"a":1}"#).await;
    for seconds in [0, 6, 400] {
        rig.advance(seconds);
        rig.step().await;
    }
    let page = page(rig).await;
    for (sample, expected) in [
        ("postrider_messages_accepted_total", 1.0),
        ("postrider_acceptance_seconds_count", 1.0),
        ("postrider_batch_messages_sum", 1.0),
        ("postrider_commit_seconds_count", 1.0),
        (r#"postrider_attempts_total{outcome="retried",status="5xx"}"#, 1.0),
        (r#"postrider_attempts_total{outcome="retried",status="4xx"}"#, 1.0),
        (r#"postrider_attempts_total{outcome="delivered",status="2xx"}"#, 1.0),
        (r#"postrider_attempts_total{outcome="failed",status="none"}"#, 0.0),
        ("postrider_attempt_seconds_count", 3.0),
        ("postrider_settle_seconds_count", 3.0),
        ("postrider_deliveries_in_flight", 0.0),
        ("postrider_queue_age_seconds", 0.0),
        ("postrider_database_waiting", 0.0),
    ] {
        assert_eq!(value(&page, sample), expected, "{sample}\n{page}");
    }
    assert!(value(&page, "postrider_start_time_seconds") > 1e9);
    let version = concat!(r#"postrider_build_info{version=""#, env!("CARGO_PKG_VERSION"), r#""}"#);
    assert_eq!(value(&page, version), 1.0);
});

both!(what_waits_is_counted_by_lane_with_the_age_of_the_oldest, async |db| {
    let rig = Rig::on(db).await;
    let now = rig.clock.now().0;
    let due = |seconds: i64| Some(now - seconds * 1_000_000);
    let rows = [
        ("a", 0, due(7)),
        ("b", 0, due(-60)), // Leased, or scheduled for later.
        ("c", 2, due(90)),
        ("d", 3, due(1)),
        ("e", 0, None),
    ];
    for (id, attempt, due_at) in rows {
        let sql = "insert into delivery (id, app_id, message_id, endpoint_id, trigger, attempts_made, due_at) \
                   values ($1, 'app', $1, 'ep', 0, $2, $3)";
        rig.sql(sql, [id.into(), attempt.into(), due_at.into()]).await;
    }
    let depth = find_depth(&rig.store).await.expect("the database answers");
    let expected = Depth {
        first: 1,
        retry: 2,
        due_since: Some(Timestamp(now - 90_000_000)),
    };
    assert_eq!(depth, expected);
    assert_eq!(find_parked_depth(&rig.store).await.expect("the database answers"), 1);
    let probes = Probes::new(&rig.store);
    let page = ask(&probes, "/metrics").await.1;
    assert_eq!(value(&page, "postrider_queue_age_seconds"), 90.0);
    assert_eq!(value(&page, r#"postrider_deliveries_due{lane="first"}"#), 1.0);
    assert_eq!(value(&page, r#"postrider_deliveries_due{lane="retry"}"#), 2.0);
    assert_eq!(value(&page, "postrider_deliveries_parked"), 1.0);

    rig.sql("delete from delivery", []).await;
    let page = ask(&probes, "/metrics").await.1;
    assert_eq!(
        value(&page, "postrider_deliveries_parked"),
        1.0,
        "a count that is up to 3 s old is shown again"
    );
    rig.advance(3);
    let page = ask(&probes, "/metrics").await.1;
    assert_eq!(value(&page, "postrider_deliveries_parked"), 0.0);
    assert_eq!(value(&page, "postrider_queue_age_seconds"), 0.0);
});

both!(requests_are_counted_by_route_and_no_series_names_a_tenant, async |db| {
    let api = Api::on(db).await;
    let app = api.post("/app", json!({"name": "Tenant", "uid": "tenant-uid"})).await;
    let app = app.json["id"].as_str().expect("an id").to_owned();
    let endpoint = json!({"url": "https://tenant.example/", "uid": "tenant-endpoint"});
    api.post(&format!("/app/{app}/endpoint"), endpoint).await;
    let change = json!({"disabled": true});
    for _ in 0..2 {
        api.patch(&format!("/app/{app}/endpoint/tenant-endpoint"), change.clone())
            .await;
    }
    api.get("/app/tenant-uid/msg/tenant-message/attempt").await;
    api.fetch("/no/such/tenant", &[]).await;
    let page = ask(&api.probes, "/metrics").await.1;
    let of = |route: &str, method: &str, status: u16| {
        let labels = format!(r#"{{route="{route}",method="{method}",status="{status}"}}"#);
        value(&page, &format!("postrider_http_requests_total{labels}"))
    };
    assert_eq!(of("/api/v1/app", "POST", 201), 1.0);
    assert_eq!(of("/api/v1/app/{app_id}/endpoint/{endpoint_id}", "PATCH", 200), 2.0);
    assert_eq!(of("/api/v1/app/{app_id}/attempt/msg/{msg_id}", "GET", 404), 1.0);
    assert_eq!(of("other", "other", 404), 1.0);
    assert_eq!(
        value(&page, "postrider_endpoints_disabled_total"),
        1.0,
        "the endpoint is counted once, not twice"
    );
    for tenants in [app.as_str(), "tenant", &api.org_id] {
        assert!(!page.contains(tenants), "{page}");
    }
});

both!(every_sample_belongs_to_a_family_with_help_and_a_type, async |db| {
    let page = page(&Rig::on(db).await).await;
    let mut family = "";
    for line in page.lines() {
        if let Some(head) = line.strip_prefix("# HELP ") {
            family = head.split(' ').next().expect("a name");
            assert!(family.starts_with("postrider_"), "{line}");
        } else if !line.starts_with("# TYPE ") {
            assert!(line.starts_with(family), "{line} under {family}");
            let (_, number) = line.rsplit_once(' ').expect("a value");
            number.parse::<f64>().expect("a number");
        }
    }
});

both!(readyz_is_200_only_between_start_and_stop_and_livez_always, async |db| {
    let rig = Rig::on(db).await;
    let probes = Probes::new(&rig.store);
    assert_eq!(ask(&probes, "/livez").await.0, 200);
    assert_eq!(ask(&probes, "/readyz").await.0, 503, "the process is starting");
    probes.serving();
    assert_eq!(ask(&probes, "/readyz").await.0, 200);
    rig.db
        .execute_unprepared("alter table installation rename to gone")
        .await
        .expect("the table is renamed");
    assert_eq!(ask(&probes, "/readyz").await.0, 503, "no schema");
    assert_eq!(ask(&probes, "/livez").await.0, 200);
    rig.db
        .execute_unprepared("alter table gone rename to installation")
        .await
        .expect("the table is renamed");
    assert_eq!(ask(&probes, "/readyz").await.0, 200);
    probes.stopping();
    let (status, body) = ask(&probes, "/readyz").await;
    assert!(status == 503 && body.contains("stopping"), "{body}");
    assert_eq!(ask(&probes, "/livez").await.0, 200);
});

both!(the_api_s_listener_has_both_probes_without_a_token, async |db| {
    let api = Api::on(db).await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(api.fetch(path, &[]).await.status, 200, "{path}");
    }
    assert_eq!(
        api.fetch("/metrics", &[]).await.status,
        404,
        "metrics are on their own listener alone"
    );
    assert!(!postrider::api::document().contains("livez"));
});

postgres_only!(a_clock_that_is_6_s_off_is_not_ready, async |db| {
    for (skew, status) in [(6_000_000, 503), (-6_000_000, 503), (4_000_000, 200)] {
        let clock = Clock::system_with_skew(skew);
        let rig = Rig::shaped(
            db,
            Shape {
                clock,
                ..Shape::default()
            },
        )
        .await;
        let probes = Probes::new(&rig.store);
        probes.serving();
        assert_eq!(ask(&probes, "/readyz").await.0, status, "{skew}");
        let apart = value(&ask(&probes, "/metrics").await.1, "postrider_clock_offset_seconds");
        assert!((apart + skew as f64 / 1e6).abs() < 1.0, "{apart}");
        rig.kill().await;
    }
});

/// Returns the URL of a process' probes, which its log names.
pub fn probes_of(serving: &Serving) -> String {
    let said = serving.stderr();
    let address = said
        .split("probes and metrics address=")
        .nth(1)
        .expect("the log names the address");
    format!("http://{}", address.split_whitespace().next().expect("an address"))
}

async fn status(url: &str) -> Option<u16> {
    Caller::new("none").status(url).await
}

async fn becomes(url: &str, wanted: u16) {
    let reached = async || (status(url).await == Some(wanted)).then_some(());
    within(DEADLINE, &format!("{url} answers {wanted}"), reached).await;
}

postgres_only!(
    a_process_without_its_database_lives_is_not_ready_and_is_not_ended_for_it,
    async |db| {
        let proxy = Proxy::to(db.url()).await;
        let program = Program::on(&proxy.url(db.url())).env("POSTRIDER_METRICS_LISTEN", "127.0.0.1:0");
        let mut serving = program.serve().await;
        let own = probes_of(&serving);
        for base in [&own, &serving.url()] {
            becomes(&format!("{base}/readyz"), 200).await;
        }
        proxy.stall();
        let asking = program.env("POSTRIDER_LISTEN", &serving.address().to_string());
        for base in [&own, &serving.url()] {
            assert_eq!(status(&format!("{base}/readyz")).await, Some(503));
            assert_eq!(status(&format!("{base}/livez")).await, Some(200));
        }
        assert_eq!(asking.run(&["healthcheck"]).await.code, Some(0));
        assert_eq!(
            status(&format!("{own}/metrics")).await,
            Some(200),
            "the page leaves out what the process cannot know"
        );
        proxy.resume();
        becomes(&format!("{own}/readyz"), 200).await;
        serving.stop().await;
    }
);

both!(readyz_turns_503_at_sigterm_while_a_delivery_is_finished, async |db| {
    let receiver = Receiver::start().await;
    receiver.answer(Answer::ok().after(Duration::from_millis(1500)));
    let (mut serving, caller) = serve_to(db, &receiver).await;
    let own = probes_of(&serving);
    becomes(&format!("{own}/readyz"), 200).await;
    let message = json!({"eventType": "order.paid", "payload": {}});
    caller.make(&serving.url(), "/app/shop/msg", message).await;
    receiver.wait_for(1).await;
    serving.signal("TERM");
    becomes(&format!("{own}/readyz"), 503).await;
    assert_eq!(status(&format!("{own}/livez")).await, Some(200));
    assert_eq!(serving.end().await, Some(0), "{}", serving.stderr());
});

/// Serves the database, with an application `shop` and its single endpoint at the receiver.
async fn serve_to(db: &TestDatabase, receiver: &Receiver) -> (Serving, Caller) {
    let program = Program::on(db.url())
        .env("POSTRIDER_ADMIN_TOKEN", OPERATOR)
        .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8")
        .env("POSTRIDER_METRICS_LISTEN", "127.0.0.1:0");
    let serving = program.serve().await;
    let caller = Caller::new(OPERATOR);
    let server = serving.url();
    caller
        .make(&server, "/app", json!({"name": "Shop", "uid": "shop"}))
        .await;
    caller
        .make(&server, "/app/shop/endpoint", json!({"url": receiver.url()}))
        .await;
    (serving, caller)
}

#[test]
fn a_connection_that_could_not_be_had_in_time_is_counted() {
    use postrider::telemetry::metrics::DATABASE_TIMEOUTS;
    let before = DATABASE_TIMEOUTS.get();
    let err = postrider::error::Error::from(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout));
    assert_eq!(err.kind, postrider::error::Kind::Database);
    assert!(DATABASE_TIMEOUTS.get() > before);
}
