//! Shows endpoints, their custom headers, their secrets, example messages and statistics.

use std::collections::{BTreeMap, BTreeSet};

use chrono::TimeDelta;
use js_option::JsOption;
use serde_json::json;
use svix::api::EndpointGetStatsOptions;
use svix::models::{
    EndpointHeadersIn, EndpointHeadersPatchIn, EndpointIn, EndpointPatch, EndpointSecretRotateIn, EndpointUpsertIn,
    EventExampleIn, EventTypeIn,
};

use crate::messages::attempts_of;
use crate::run::{Run, Shown, new_name, refused};

fn set(name: &str) -> Option<BTreeSet<String>> {
    Some(BTreeSet::from([name.to_owned()]))
}

fn map<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

pub async fn endpoint(run: &Run) -> Shown {
    let (api, app) = (run.svix.endpoint(), run.application("Endpoints").await?);
    let (uid, wanted) = (new_name("endpoint"), new_name("order.paid"));
    run.svix
        .event_type()
        .create(EventTypeIn::new(wanted.clone(), String::new()), None)
        .await?;
    let inbox = run.receiver.inbox();
    let body = EndpointIn {
        description: Some("The till".to_owned()),
        uid: Some(uid.clone()),
        channels: set("eu"),
        event_types: set(&wanted),
        throttle_rate: Some(50),
        metadata: Some(map([("team", "a")])),
        ..EndpointIn::new(inbox.url.clone())
    };
    let created = api.create(app.clone(), body.clone(), None).await?;
    assert!(created.id.starts_with("ep_") && created.url == inbox.url, "{created:?}");
    assert_eq!(
        (&created.uid, &created.channels, &created.event_types),
        (&body.uid, &body.channels, &body.event_types)
    );
    assert_eq!(
        (created.throttle_rate, Some(&created.metadata)),
        (Some(50), body.metadata.as_ref())
    );
    assert_eq!(api.get(app.clone(), uid.clone()).await?, created);

    let patch = EndpointPatch {
        disabled: Some(true),
        channels: JsOption::Null,
        ..EndpointPatch::new()
    };
    let patched = api.patch(app.clone(), uid, patch).await?;
    assert_eq!(
        (patched.disabled, patched.channels, patched.throttle_rate),
        (Some(true), None, Some(50))
    );
    let body = EndpointUpsertIn::new(inbox.url.clone());
    let replaced = api.upsert(app.clone(), created.id.clone(), body).await?;
    assert_eq!(
        (&replaced.id, replaced.uid, replaced.disabled),
        (&created.id, None, Some(false))
    );
    assert_eq!((replaced.event_types, replaced.metadata.len()), (None, 0));
    api.delete(app.clone(), created.id.clone()).await?;
    assert_eq!(refused(api.get(app, created.id).await)?.0, 404);
    Ok("an endpoint is created, found by its uid, replaced, patched and deleted")
}

pub async fn headers(run: &Run) -> Shown {
    let (api, app, inbox) = (
        run.svix.endpoint(),
        run.application("Headers").await?,
        run.receiver.inbox(),
    );
    let custom = map([("X-Region", "eu"), ("X-Old", "1"), ("Authorization", "Basic secret")]);
    let body = EndpointIn {
        headers: Some(custom),
        ..EndpointIn::new(inbox.url.clone())
    };
    let id = api.create(app.clone(), body, None).await?.id;
    let given = api.get_headers(app.clone(), id.clone()).await?;
    assert_eq!(given.headers, map([("X-Region", "eu"), ("X-Old", "1")]));
    assert!(
        given
            .sensitive
            .iter()
            .map(|name| name.to_lowercase())
            .eq(["authorization"]),
        "{given:?}"
    );

    let mut patch = EndpointHeadersPatchIn::new(map([("X-Tier", "2")]));
    patch.delete_headers = Some(vec!["X-Old".to_owned()]);
    api.patch_headers(app.clone(), id.clone(), patch).await?;
    run.send(&app, json!({"n": 1})).await?;
    let sent = inbox.take().await?;
    let carried = ["x-region", "x-tier", "authorization", "x-old"].map(|name| sent.header(name));
    assert_eq!(carried, [Some("eu"), Some("2"), Some("Basic secret"), None]);

    let only = map([("X-Only", "this")]);
    api.set_headers(app.clone(), id.clone(), EndpointHeadersIn::new(only.clone()))
        .await?;
    let replaced = api.get_headers(app, id).await?;
    assert_eq!((replaced.headers, replaced.sensitive.len()), (only, 0));
    Ok("custom headers are set at creation, read, patched and replaced, and sent with each delivery")
}

pub async fn secret_rotation(run: &Run) -> Shown {
    let (api, app) = (run.svix.endpoint(), run.application("Secrets").await?);
    let (created, inbox) = run.endpoint(&app).await?;
    let old = api.get_secret(app.clone(), created.id.clone()).await?.key;
    let body = EndpointSecretRotateIn::new();
    let new = api
        .rotate_secret(app.clone(), created.id.clone(), body, None)
        .await?
        .key;
    assert!(new.starts_with("whsec_") && new != old);
    assert_eq!(api.get_secret(app.clone(), created.id.clone()).await?.key, new);
    run.send(&app, json!({"n": 1})).await?;
    let delivery = inbox.take().await?;
    delivery.verify(&old)?;
    assert_eq!(delivery.verified(&new)?, json!({"n": 1}));

    let body = EndpointSecretRotateIn {
        grace_period_seconds: Some(0),
        ..EndpointSecretRotateIn::new()
    };
    let newest = api.rotate_secret(app.clone(), created.id, body, None).await?.key;
    run.send(&app, json!({"n": 2})).await?;
    let delivery = inbox.take().await?;
    assert_eq!(delivery.verified(&newest)?, json!({"n": 2}));
    assert!(delivery.verify(&new).is_err());
    Ok("after a rotation the old and the new secret both verify, until the grace period ends")
}

pub async fn example(run: &Run) -> Shown {
    let (app, name) = (run.application("Example").await?, new_name("order.paid"));
    let schema = json!({"1": {"type": "object", "examples": [{"total": 1}, {"total": 2}]}});
    let event_type = EventTypeIn {
        schemas: Some(schema),
        ..EventTypeIn::new(name.clone(), String::new())
    };
    run.svix.event_type().create(event_type, None).await?;
    let (endpoint, inbox) = run.endpoint(&app).await?;
    let (_, other) = run.endpoint(&app).await?;
    let secret = run
        .svix
        .endpoint()
        .get_secret(app.clone(), endpoint.id.clone())
        .await?
        .key;
    let second = EventExampleIn {
        example_index: Some(1),
        ..EventExampleIn::new(name.clone())
    };
    for (body, payload) in [
        (EventExampleIn::new(name), json!({"total": 1})),
        (second, json!({"total": 2})),
        (EventExampleIn::new("svix.ping".to_owned()), json!({"success": true})),
    ] {
        let sent = run
            .svix
            .endpoint()
            .send_example(app.clone(), endpoint.id.clone(), body, None)
            .await?;
        let arrived = inbox.take().await?;
        assert_eq!((arrived.verified(&secret)?, arrived.message()?), (payload, sent.id));
    }
    assert!(other.is_empty());
    Ok("an example of an event type is sent to one endpoint alone")
}

pub async fn statistics(run: &Run) -> Shown {
    let app = run.application("Statistics").await?;
    let (endpoint, inbox) = run.endpoint(&app).await?;
    let delivered = run.send(&app, json!({"n": 1})).await?;
    attempts_of(run, &app, &delivered.id, 1).await?;
    inbox.answer(500);
    let failed = run.send(&app, json!({"n": 2})).await?;
    attempts_of(run, &app, &failed.id, 1).await?;
    let options = EndpointGetStatsOptions {
        since: Some(delivered.timestamp - TimeDelta::hours(1)),
        until: None,
    };
    let stats = run.svix.endpoint().get_stats(app, endpoint.id, Some(options)).await?;
    assert_eq!((stats.success, stats.fail, stats.pending, stats.canceled), (1, 1, 0, 0));
    Ok("an endpoint's attempts are counted by how they ended")
}
