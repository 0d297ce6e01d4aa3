//! What an organization has in the queue: counted within bounds, and of this organization alone.

use serde_json::{Value, json};

use crate::api::Api;

/// Makes an application with an endpoint by this token. Returns their ids.
async fn endpoint(api: &Api, token: &str) -> (String, String) {
    let app = json!({"name": "n"}).to_string();
    let app = api.call(token, "POST", "/app", &[], &app).await.field("id");
    let new = json!({"url": "http://127.0.0.1:9/"}).to_string();
    let path = format!("/app/{app}/endpoint");
    let endpoint = api.call(token, "POST", &path, &[], &new).await.field("id");
    (app, endpoint)
}

/// Inserts `count` rows of the queue, all in the state that `columns` give: attempts, due instant, owner.
async fn queue(api: &Api, (app, endpoint): &(String, String), name: &str, count: usize, columns: &str) {
    let sql = format!(
        "with recursive n(i) as (select 1 union all select i + 1 from n where i < {count}) \
         insert into delivery (id, app_id, message_id, endpoint_id, trigger, attempts_made, due_at, owner) \
         select 'dlv_{name}' || i, '{app}', 'msg_{name}' || i, '{endpoint}', 0, {columns} from n"
    );
    api.rig.sql(&sql, []).await;
}

fn counts(body: &Value) -> [i64; 4] {
    ["waiting", "due", "parked", "sending"].map(|field| body[field].as_i64().unwrap())
}

both!(
    get_queue_counts_what_waits_by_endpoint_for_its_organization_alone,
    async |db| {
        let api = Api::on(db).await;
        let stranger = api.stranger().await;
        let now = api.rig.clock.now().unix_micros();
        let (minute_ago, later) = (now - 60_000_000, now + 60_000_000);
        let (one, two) = (endpoint(&api, &api.token).await, endpoint(&api, &api.token).await);
        queue(&api, &one, "a", 2, &format!("0, {minute_ago}, null")).await;
        queue(&api, &one, "b", 3, &format!("1, {later}, null")).await;
        queue(&api, &one, "c", 1, &format!("0, {later}, 'own_1'")).await;
        queue(&api, &one, "d", 1, &format!("2, {minute_ago}, 'own_lost'")).await;
        queue(&api, &two, "e", 7, "0, null, null").await;
        let other = endpoint(&api, &stranger).await;
        queue(&api, &other, "f", 5, "0, null, null").await;
        queue(&api, &other, "g", 5, &format!("0, {minute_ago}, null")).await;
        let told = api.get("/queue").await;
        let body = told.expect(200);
        assert_eq!(counts(body), [13, 3, 7, 1]);
        assert_eq!(
            (&body["oldestDueSeconds"], &body["capped"]),
            (&json!(60), &json!(false))
        );
        let endpoints = json!([
            {"appId": two.0, "endpointId": two.1, "waiting": 7, "oldestDueSeconds": null},
            {"appId": one.0, "endpointId": one.1, "waiting": 6, "oldestDueSeconds": 60},
        ]);
        assert_eq!(body["endpoints"], endpoints);
        let others = api.call(&stranger, "GET", "/queue", &[], "").await;
        assert_eq!(counts(others.expect(200)), [10, 5, 5, 0]);
        let nothing = api.acting_for("nobody else").await.get("/queue").await;
        assert_eq!(counts(nothing.expect(200)), [0, 0, 0, 0]);
        assert_eq!(nothing.json["oldestDueSeconds"], Value::Null);
    }
);

both!(a_long_queue_is_counted_up_to_a_bound_and_said_so, async |db| {
    let api = Api::on(db).await;
    let now = api.rig.clock.now().unix_micros();
    let one = endpoint(&api, &api.token).await;
    queue(&api, &one, "a", 10_001, &format!("0, {now}, null")).await;
    queue(&api, &one, "b", 10_001, "0, null, null").await;
    let told = api.get("/queue").await;
    assert_eq!(counts(told.expect(200)), [20_000, 10_000, 10_000, 0]);
    assert_eq!(told.json["capped"], true);
});

both!(of_many_endpoints_the_fifty_largest_are_named, async |db| {
    let api = Api::on(db).await;
    let app = api.application("a").await;
    for at in 0..52 {
        let endpoint = (app.clone(), format!("ep_{at}"));
        queue(&api, &endpoint, &format!("{at}x"), at + 1, "0, null, null").await;
    }
    let told = api.get("/queue").await;
    let endpoints = told.expect(200)["endpoints"].as_array().unwrap();
    assert_eq!(
        (endpoints.len(), &endpoints[0]["waiting"], &endpoints[49]["waiting"]),
        (50, &json!(52), &json!(3))
    );
    assert_eq!(told.json["waiting"], 52 * 53 / 2, "all are counted");
});
