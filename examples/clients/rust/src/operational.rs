//! Shows operational webhooks, which notify the organization of what happens to endpoints and messages.

use std::collections::BTreeMap;

use svix::models::{
    OperationalWebhookEndpointHeadersIn, OperationalWebhookEndpointIn, OperationalWebhookEndpointSecretIn,
    OperationalWebhookEndpointUpsertIn,
};

use crate::run::{Run, Shown, new_name, refused};

pub async fn operational_webhooks(run: &Run) -> Shown {
    let (webhooks, inbox) = (run.svix.operational_webhook(), run.receiver.inbox());
    let api = webhooks.endpoint();
    let body = OperationalWebhookEndpointIn {
        event_types: Some(["endpoint.created".to_owned()].into()),
        ..OperationalWebhookEndpointIn::new(inbox.url.clone())
    };
    let operational = api.create(body, None).await?.id;
    let secret = api.get_secret(operational.clone()).await?.key;
    let app = run.application("Operational webhooks").await?;
    let created = run.endpoint(&app).await?.0.id;
    let event = inbox.take().await?.verified(&secret)?;
    api.delete(operational).await?;
    assert_eq!(event["type"], "endpoint.created");
    assert_eq!(
        (&event["data"]["appId"], &event["data"]["endpointId"]),
        (&app.into(), &created.into())
    );
    Ok("the organization is notified by webhook that an endpoint was created")
}

pub async fn operational_endpoint(run: &Run) -> Shown {
    let (webhooks, inbox, uid) = (
        run.svix.operational_webhook(),
        run.receiver.inbox(),
        new_name("operations"),
    );
    let api = webhooks.endpoint();
    let body = OperationalWebhookEndpointIn {
        uid: Some(uid.clone()),
        ..OperationalWebhookEndpointIn::new(inbox.url.clone())
    };
    let created = api.create(body, None).await?;
    assert_eq!(api.get(uid).await?, created);
    assert!(api.list(None).await?.data.contains(&created));
    let body = OperationalWebhookEndpointUpsertIn {
        event_types: Some(["endpoint.deleted".to_owned()].into()),
        ..OperationalWebhookEndpointUpsertIn::new(inbox.url.clone())
    };
    let replaced = api.upsert(created.id.clone(), body.clone()).await?;
    assert_eq!((&replaced.id, replaced.event_types), (&created.id, body.event_types));
    let headers = BTreeMap::from([("X-Team".to_owned(), "a".to_owned())]);
    api.set_headers(
        created.id.clone(),
        OperationalWebhookEndpointHeadersIn::new(headers.clone()),
    )
    .await?;
    assert_eq!(api.get_headers(created.id.clone()).await?.headers, headers);

    let old = api.get_secret(created.id.clone()).await?.key;
    api.rotate_secret(created.id.clone(), OperationalWebhookEndpointSecretIn::new(), None)
        .await?;
    let current = api.get_secret(created.id.clone()).await?.key;
    assert_ne!(current, old);
    let app = run.application("Operational endpoint").await?;
    let endpoint = run.endpoint(&app).await?.0.id;
    run.svix.endpoint().delete(app, endpoint).await?;
    let arrived = inbox.take().await?;
    assert_eq!(arrived.header("x-team"), Some("a"));
    assert_eq!(arrived.verified(&current)?, arrived.verified(&old)?);
    api.delete(created.id.clone()).await?;
    assert_eq!(refused(api.get(created.id).await)?.0, 404);
    Ok("an endpoint for operational webhooks is listed, replaced, given headers and a new secret, and deleted")
}
