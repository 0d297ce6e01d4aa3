//! Custom headers of endpoints: which are accepted, how they are shown, stored and sent, and which headers they never
//! replace.

use serde_json::{Value, json};

use crate::api::Api;
use crate::harness::{RawReceiver, Receiver, Shape, TestDatabase, Then, rows};

/// Names that the delivery itself uses (wire contract), and names that would control the connection.
const REFUSED: [&str; 37] = [
    "user-agent",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailers",
    "transfer-encoding",
    "upgrade",
    "age",
    "cache-control",
    "clear-site-data",
    "expires",
    "pragma",
    "warning",
    "content-length",
    "content-type",
    "content-encoding",
    "content-language",
    "content-location",
    "host",
    "connection",
    "x-amz-x",
    "x-amzn-x",
    "x-google",
    "x-google-x",
    "x-goog-x",
    "x-gfe",
    "x-azure-x",
    "x-fd-x",
    "x-svix-x",
    "svix-id",
    "svix-signature",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "webhook-own",
    "Content-Type",
];

/// Creates an application with an endpoint `e` at a receiver. Returns the path of the application too.
async fn prepared(db: &TestDatabase, svix_headers: bool, headers: Value) -> (Api, Receiver, String) {
    let shape = Shape {
        svix_headers,
        ..Shape::default()
    };
    let api = Api::shaped(db, shape, postrider::api::ApiState::BODY_DEADLINE).await;
    let receiver = Receiver::start().await;
    let app = api.application("app").await;
    let new = json!({"url": receiver.url(), "uid": "e", "headers": headers});
    api.post(&format!("/app/{app}/endpoint"), new).await.expect(201);
    (api, receiver, format!("/app/{app}"))
}

async fn send(api: &mut Api, app: &str) {
    let message = json!({"eventType": "a", "payload": {}});
    api.post(&format!("{app}/msg"), message).await.expect(202);
    api.rig.drain().await;
}

async fn stored(api: &Api) -> String {
    let row = rows(&api.rig.db, "select headers from endpoint").await;
    row[0].try_get("", "headers").unwrap()
}

both!(
    custom_headers_are_given_at_creation_and_go_out_with_every_delivery,
    async |db| {
        let headers = json!({"X-Plain": "1", "Authorization": "Bearer s", "x-utf-8": "grüße"});
        let (mut api, receiver, app) = prepared(db, false, headers).await;
        send(&mut api, &app).await;
        let arrival = receiver.arrivals().pop().unwrap();
        assert_eq!(
            (arrival.header("x-plain"), arrival.header("authorization")),
            (Some("1"), Some("Bearer s"))
        );
        assert_eq!(arrival.headers["x-utf-8"].as_bytes(), "grüße".as_bytes());
    }
);

both!(
    get_headers_answers_200_and_only_the_names_of_sensitive_ones,
    async |db| {
        let sensitive = [
            "Authorization",
            "Cookie",
            "WWW-Authenticate",
            "X-AUTH-Token",
            "X-Hook-Secret",
            "X-Hub-Signature",
            "X-Session",
            "api_password",
            "x-api-key-2",
        ];
        let mut headers = json!({"X-Plain": "1"});
        for name in sensitive {
            headers[name] = json!("hidden");
        }
        let (api, _receiver, app) = prepared(db, false, headers).await;
        let shown = api.get(&format!("{app}/endpoint/e/headers")).await;
        assert_eq!(
            shown.expect(200),
            &json!({"headers": {"X-Plain": "1"}, "sensitive": sensitive})
        );
    }
);

both!(put_headers_answers_204_and_replaces_all_of_them, async |db| {
    let (mut api, receiver, app) = prepared(db, false, json!({"X-Old": "1", "Authorization": "a"})).await;
    let path = format!("{app}/endpoint/e/headers");
    assert_eq!(
        api.put(&path, json!({"headers": {"X-New": "2"}})).await.expect(204),
        &Value::Null
    );
    assert_eq!(
        api.get(&path).await.expect(200),
        &json!({"headers": {"X-New": "2"}, "sensitive": []})
    );
    send(&mut api, &app).await;
    let arrival = receiver.arrivals().pop().unwrap();
    assert_eq!(
        ["x-new", "x-old", "authorization"].map(|name| arrival.header(name)),
        [Some("2"), None, None]
    );
    api.put(&path, json!({"headers": {}})).await.expect(204);
    assert_eq!(
        api.get(&path).await.expect(200),
        &json!({"headers": {}, "sensitive": []})
    );
});

both!(
    patch_headers_answers_204_sets_removes_nulls_and_removes_delete_headers,
    async |db| {
        let headers = json!({"X-Keep": "1", "X-Change": "2", "X-Null": "3", "X-Delete": "4", "Authorization": "kept, though hidden"});
        let (mut api, receiver, app) = prepared(db, false, headers).await;
        let path = format!("{app}/endpoint/e/headers");
        let change = json!({"headers": {"x-change": "5", "x-null": null, "x-never": null}, "deleteHeaders": ["x-delete", "none"]});
        api.patch(&path, change).await.expect(204);
        let expected = json!({"headers": {"X-Keep": "1", "x-change": "5"}, "sensitive": ["Authorization"]});
        assert_eq!(api.get(&path).await.expect(200), &expected);
        for nothing in [
            json!({}),
            json!({"headers": {}}),
            json!({"headers": {}, "deleteHeaders": null}),
        ] {
            api.patch(&path, nothing).await.expect(204);
        }
        assert_eq!(api.get(&path).await.expect(200), &expected);
        send(&mut api, &app).await;
        assert_eq!(
            receiver.arrivals()[0].header("authorization"),
            Some("kept, though hidden")
        );
    }
);

both!(
    a_header_that_belongs_to_the_delivery_is_refused_wherever_it_is_given,
    async |db| {
        let (api, receiver, app) = prepared(db, false, json!({})).await;
        let path = format!("{app}/endpoint/e/headers");
        let long = "x".repeat(257);
        for name in REFUSED.into_iter().chain(["", "a b", "a:b", "ü", "a\n", &long]) {
            let place = format!("body.headers.{name}");
            let headers = json!({"X-Good": "1", name: "x"});
            let new = json!({"url": receiver.url(), "headers": headers});
            api.post(&format!("{app}/endpoint"), new).await.breaks_rule_at(&place);
            api.put(&path, json!({ "headers": headers }))
                .await
                .breaks_rule_at(&place);
            api.patch(&path, json!({ "headers": headers }))
                .await
                .breaks_rule_at(&place);
        }
        assert_eq!(api.get(&path).await.expect(200)["headers"], json!({}));
    }
);

both!(a_header_value_has_up_to_4096_bytes_without_line_breaks, async |db| {
    let (mut api, receiver, app) = prepared(db, false, json!({})).await;
    let path = format!("{app}/endpoint/e/headers");
    for bad in [
        "x".repeat(4097),
        "ü".repeat(2049),
        "a\nb".into(),
        "a\r\nX-Other: b".into(),
        "a\0b".into(),
        "\u{7f}".into(),
    ] {
        api.put(&path, json!({"headers": {"X-Own": bad}}))
            .await
            .breaks_rule_at("body.headers.X-Own");
        api.patch(&path, json!({"headers": {"X-Own": bad}}))
            .await
            .breaks_rule_at("body.headers.X-Own");
    }
    let most = "x".repeat(4096);
    api.put(
        &path,
        json!({"headers": {"X-Own": most, "X-Empty": "", "X-Tab": "a\tb"}}),
    )
    .await
    .expect(204);
    send(&mut api, &app).await;
    let arrival = receiver.arrivals().pop().unwrap();
    let sent = ["x-own", "x-empty", "x-tab"].map(|name| arrival.header(name));
    assert_eq!(sent, [Some(&*most), Some(""), Some("a\tb")]);
});

/// Returns four custom headers that have 16384 bytes together, plus `more` bytes in the last one.
fn headers_at_the_limit(more: usize) -> Value {
    let header = |n: usize| {
        let more = if n == 3 { more } else { 0 };
        (format!("X-Own-{n}"), json!("x".repeat(4096 - "X-Own-0".len() + more)))
    };
    (0..4).map(header).collect()
}

both!(
    custom_headers_have_up_to_16384_bytes_together_wherever_they_are_given,
    async |db| {
        let (mut api, receiver, app) = prepared(db, false, json!({})).await;
        let path = format!("{app}/endpoint/e/headers");
        let (most, too_many) = (headers_at_the_limit(0), headers_at_the_limit(1));
        let new = |headers: &Value| json!({"url": receiver.url(), "headers": headers});
        for new_endpoint in [format!("{app}/endpoint"), "/operational-webhook/endpoint".to_owned()] {
            api.post(&new_endpoint, new(&too_many))
                .await
                .breaks_rule_at("body.headers");
        }
        api.put(&path, json!({ "headers": too_many }))
            .await
            .breaks_rule_at("body.headers");
        api.put(&path, json!({ "headers": most })).await.expect(204);
        for one_more in [json!({"X-Own-3": too_many["X-Own-3"]}), json!({"x": ""})] {
            api.patch(&path, json!({ "headers": one_more }))
                .await
                .breaks_rule_at("body.headers");
        }
        let replaced = json!({"headers": {"x-own-3": most["X-Own-3"]}, "deleteHeaders": ["none"]});
        api.patch(&path, replaced).await.expect(204);
        api.delete(&format!("{app}/endpoint/e")).await.expect(204);
        api.post(&format!("{app}/endpoint"), new(&most)).await.expect(201);
        send(&mut api, &app).await;
        let arrival = receiver.arrivals().pop().unwrap();
        for (name, value) in most.as_object().unwrap() {
            assert_eq!(arrival.header(name), value.as_str(), "{name}");
        }
    }
);

both!(a_message_is_accepted_without_a_look_at_large_headers, async |db| {
    let (mut api, receiver, app) = prepared(db, false, json!({})).await;
    let put = json!({"headers": headers_at_the_limit(0)});
    api.put(&format!("{app}/endpoint/e/headers"), put).await.expect(204);
    let sealed = stored(&api).await;
    // A read of these headers would fail.
    let spoilt = "[".repeat(sealed.len());
    api.rig.sql("update endpoint set headers = $1", [spoilt.into()]).await;
    let message = json!({"eventType": "a", "payload": {}});
    api.post(&format!("{app}/msg"), message).await.expect(202);
    api.rig.sql("update endpoint set headers = $1", [sealed.into()]).await;
    api.rig.drain().await;
    let arrival = receiver.arrivals().pop().expect("the message is delivered");
    assert_eq!(arrival.header("x-own-3").map(str::len), Some(4089));
});

both!(
    what_belongs_to_the_delivery_is_never_replaced_whatever_the_row_says,
    async |db| {
        let (mut api, receiver, app) = prepared(db, true, json!({})).await;
        let own = [
            "webhook-id",
            "Webhook-Timestamp",
            "WEBHOOK-SIGNATURE",
            "Svix-Id",
            "svix-timestamp",
            "svix-signature",
            "Content-Type",
            "User-Agent",
        ];
        let row: Value = own.iter().map(|name| ((*name).to_owned(), json!("forged"))).collect();
        let endpoint = api.get(&format!("{app}/endpoint/e")).await;
        let id = endpoint.expect(200)["id"].as_str().unwrap();
        api.rig.set_headers(id, &row.to_string()).await;
        send(&mut api, &app).await;
        let arrival = receiver.arrivals().pop().unwrap();
        for name in own {
            let values: Vec<_> = arrival.headers.get_all(name).iter().collect();
            assert!(values.len() == 1 && values[0] != "forged", "{name}: {values:?}");
        }
        assert_eq!(arrival.header("content-type"), Some("application/json"));
    }
);

both!(custom_headers_lie_sealed_in_the_database, async |db| {
    let (mut api, receiver, app) = prepared(db, false, json!({"X-Own": "topsecret"})).await;
    let path = format!("{app}/endpoint/e/headers");
    let at_creation = stored(&api).await;
    api.put(&path, json!({"headers": {"Authorization": "topsecret"}}))
        .await
        .expect(204);
    let at_change = stored(&api).await;
    api.patch(&path, json!({"headers": {"X-New": "1"}})).await.expect(204);
    for kept in [at_creation, at_change, stored(&api).await] {
        for clear in ["topsecret", "X-Own", "Authorization", "X-New"] {
            assert!(!kept.contains(clear), "{kept}");
        }
    }
    send(&mut api, &app).await;
    let arrival = receiver.arrivals().pop().unwrap();
    assert_eq!(
        (arrival.header("authorization"), arrival.header("x-new")),
        (Some("topsecret"), Some("1"))
    );
});

both!(sealed_headers_open_at_their_own_endpoint_alone, async |db| {
    let (mut api, receiver, app) = prepared(db, false, json!({"X-Own": "1"})).await;
    let other = json!({"url": receiver.url(), "uid": "other", "headers": {"X-Other": "2"}});
    api.post(&format!("{app}/endpoint"), other).await.expect(201);
    let swap = "update endpoint set headers = (select headers from endpoint where uid = 'e') where uid = 'other'";
    api.rig.sql(swap, []).await;
    api.get(&format!("{app}/endpoint/other/headers"))
        .await
        .refused(500, "server_error");
    send(&mut api, &app).await;
    assert_eq!(receiver.count(), 1, "no request goes out without its headers");
    assert_eq!(
        api.rig.count("attempt where response like '%cannot be opened%'").await,
        1
    );
});

both!(
    custom_headers_go_out_in_title_case_and_are_shown_as_they_were_given,
    async |db| {
        let (mut api, _receiver, app) = prepared(db, false, json!({})).await;
        let receiver = RawReceiver::saying("HTTP/1.1 204 No Content\r\n\r\n", Then::Close).await;
        let headers = json!({"X-OWN-Name": "1", "x-small": "2", "X_oDD.Name": "3", "ETag": "4"});
        api.put(&format!("{app}/endpoint/e"), json!({"url": receiver.url(), "uid": "e"}))
            .await
            .expect(200);
        api.put(&format!("{app}/endpoint/e/headers"), json!({ "headers": headers }))
            .await
            .expect(204);
        send(&mut api, &app).await;
        let request = String::from_utf8(receiver.requests().remove(0)).unwrap();
        for line in ["X-Own-Name: 1", "X-Small: 2", "X_odd.name: 3", "Etag: 4"] {
            assert!(request.contains(&format!("\r\n{line}\r\n")), "{line}: {request}");
        }
        let shown = api.get(&format!("{app}/endpoint/e/headers")).await;
        assert_eq!(shown.expect(200)["headers"], headers);
    }
);

/// Asserts that a delivery carries its id, timestamp and signature under the standard names, and under the older names
/// too only if the switch is `on`.
async fn signature_headers(db: &TestDatabase, on: bool) {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let (mut api, receiver, app) = prepared(db, on, json!({})).await;
    api.post(&format!("{app}/endpoint/e/secret/rotate"), json!({"key": SECRET}))
        .await
        .expect(200);
    send(&mut api, &app).await;
    let arrival = receiver.arrivals().pop().unwrap();
    assert!(arrival.is_signed_with(SECRET));
    for name in ["id", "timestamp", "signature"] {
        let standard = arrival.header(&format!("webhook-{name}"));
        assert!(standard.is_some());
        let older = arrival.header(&format!("svix-{name}"));
        assert_eq!(older, standard.filter(|_| on), "{name}");
    }
}

both!(only_the_standard_names_are_sent_by_default, async |db| {
    signature_headers(db, false).await;
});

both!(the_svix_names_are_sent_too_where_the_switch_is_on, async |db| {
    signature_headers(db, true).await;
});
