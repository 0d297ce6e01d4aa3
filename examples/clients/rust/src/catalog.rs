//! Shows applications, event types, pages and refusals.

use std::collections::BTreeMap;

use js_option::JsOption;
use serde_json::{Value, json};
use svix::api::{ApplicationListOptions, EndpointListOptions, EventTypeDeleteOptions, EventTypeListOptions};
use svix::models::{ApplicationIn, ApplicationPatch, EventTypeIn, EventTypePatch, EventTypeUpsertIn, Ordering};

use crate::run::{Outcome, Run, Shown, client, invalid, new_name, refused};

pub async fn health(run: &Run) -> Shown {
    run.svix.health().get().await?;
    Ok("the server says that it is healthy")
}

pub async fn application(run: &Run) -> Shown {
    let (api, uid) = (run.svix.application(), new_name("customer"));
    let body = ApplicationIn {
        uid: Some(uid.clone()),
        throttle_rate: Some(100),
        metadata: Some(BTreeMap::from([("plan".to_owned(), "gold".to_owned())])),
        ..ApplicationIn::new("Ada's shop".to_owned())
    };
    let created = api.create(body.clone(), None).await?;
    assert!(
        created.id.starts_with("app_") && created.uid.as_ref() == Some(&uid),
        "{created:?}"
    );
    assert_eq!(api.get(uid.clone()).await?, created);
    assert_eq!(api.get_or_create(body, None).await?, created);

    let patch = ApplicationPatch {
        name: Some("Ada's new shop".to_owned()),
        ..ApplicationPatch::new()
    };
    let patched = api.patch(uid.clone(), patch).await?;
    assert_eq!(
        (patched.name.as_str(), patched.throttle_rate),
        ("Ada's new shop", Some(100))
    );
    let patch = ApplicationPatch {
        throttle_rate: JsOption::Null,
        ..ApplicationPatch::new()
    };
    assert_eq!(api.patch(uid.clone(), patch).await?.throttle_rate, None);

    let body = ApplicationIn {
        uid: Some(uid.clone()),
        ..ApplicationIn::new("Ada".to_owned())
    };
    let replaced = api.upsert(created.id.clone(), body).await?;
    assert_eq!((&replaced.id, replaced.metadata.len()), (&created.id, 0));
    api.delete(uid).await?;
    assert_eq!(refused(api.get(created.id).await)?.0, 404);
    Ok("an application is created, found by its uid, replaced, patched and deleted")
}

pub async fn event_type(run: &Run) -> Shown {
    let (api, name) = (run.svix.event_type(), new_name("order.paid"));
    let schemas = json!({"1": {"type": "object", "properties": {"total": {"type": "number"}}}});
    let body = EventTypeIn {
        schemas: Some(schemas.clone()),
        ..EventTypeIn::new(name.clone(), "An order was paid".to_owned())
    };
    api.create(body, None).await?;
    assert_eq!(api.get(name.clone()).await?.schemas.as_ref(), Some(&schemas));
    let patch = EventTypePatch {
        deprecated: Some(true),
        ..EventTypePatch::new()
    };
    assert!(api.patch(name.clone(), patch).await?.deprecated);
    let body = EventTypeUpsertIn {
        schemas: Some(schemas.clone()),
        ..EventTypeUpsertIn::new("Paid in full".to_owned())
    };
    let replaced = api.upsert(name.clone(), body).await?;
    assert_eq!(
        (replaced.description.as_str(), replaced.deprecated),
        ("Paid in full", false)
    );

    let plain = EventTypeListOptions {
        limit: Some(250),
        ..EventTypeListOptions::default()
    };
    assert_eq!(listed(run, plain, &name).await?, Some(None));
    let with_content = EventTypeListOptions {
        limit: Some(250),
        with_content: Some(true),
        ..EventTypeListOptions::default()
    };
    assert_eq!(listed(run, with_content, &name).await?, Some(Some(schemas)));

    api.delete(name.clone(), None).await?;
    let plain = EventTypeListOptions {
        limit: Some(250),
        ..EventTypeListOptions::default()
    };
    assert_eq!(listed(run, plain, &name).await?, None);
    let body = EventTypeIn::new(name.clone(), "Back".to_owned());
    assert_eq!(api.create(body, None).await?.archived, Some(false));
    api.delete(name.clone(), Some(EventTypeDeleteOptions { expunge: Some(true) }))
        .await?;
    assert_eq!(refused(api.get(name).await)?.0, 404);
    Ok("an event type is created, listed with and without its schemas, replaced, archived and brought back")
}

/// Returns the schemas of the event type `name`; `None` means that it is not listed.
async fn listed(run: &Run, options: EventTypeListOptions, name: &str) -> Outcome<Option<Option<Value>>> {
    let page = run.svix.event_type().list(Some(options)).await?;
    Ok(page
        .data
        .into_iter()
        .find(|event_type| event_type.name == name)
        .map(|event_type| event_type.schemas))
}

pub async fn paging(run: &Run) -> Shown {
    let (app, api) = (run.application("Pages").await?, run.svix.endpoint());
    let mut created = Vec::new();
    for _ in 0..5 {
        created.push(run.endpoint(&app).await?.0.id);
    }
    let options = |iterator| EndpointListOptions {
        limit: Some(2),
        iterator,
        order: Some(Ordering::Ascending),
    };

    let (mut pages, mut iterator) = (Vec::new(), None);
    let last = loop {
        let page = api.list(app.clone(), Some(options(iterator))).await?;
        pages.push(page.data.iter().map(|endpoint| endpoint.id.clone()).collect::<Vec<_>>());
        if page.done {
            break page;
        }
        iterator = page.iterator;
    };
    assert_eq!(pages, [&created[0..2], &created[2..4], &created[4..]]);

    let back = api.list(app.clone(), Some(options(last.prev_iterator))).await?;
    assert_eq!(
        back.data.iter().map(|endpoint| &endpoint.id).collect::<Vec<_>>(),
        [&created[2], &created[3]]
    );
    let newest_first = api.list(app, None).await?;
    assert!(
        newest_first
            .data
            .iter()
            .map(|endpoint| &endpoint.id)
            .eq(created.iter().rev())
            && newest_first.done
    );
    let empty = api.list(run.application("No pages").await?, None).await?;
    assert_eq!((empty.data.len(), empty.iterator, empty.done), (0, None, true));
    Ok("a list is read page by page, forwards and backwards, in the order that was asked for")
}

pub async fn refusals(run: &Run) -> Shown {
    let (api, uid) = (run.svix.application(), new_name("taken"));
    let named = |name: &str| ApplicationIn {
        uid: Some(uid.clone()),
        ..ApplicationIn::new(name.to_owned())
    };
    api.create(named("First"), None).await?;

    let unknown_token = client(&run.url, "no token of anyone");
    let (status, body) = refused(unknown_token.application().list(None).await)?;
    assert_eq!((status, body.code.as_str()), (401, "authentication_failed"));
    let (status, body) = refused(api.get("app_of_nobody".to_owned()).await)?;
    assert_eq!((status, body.code.as_str()), (404, "not_found"));
    let (status, body) = refused(api.create(named("Second"), None).await)?;
    assert_eq!((status, body.code.as_str()), (409, "conflict"));
    assert!(!body.detail.is_empty());

    let fields = invalid(api.create(ApplicationIn::new(String::new()), None).await)?;
    assert_eq!(
        (&fields[0].loc[..], fields[0].r#type.as_str()),
        (&["body".to_owned(), "name".to_owned()][..], "value_error")
    );
    let options = ApplicationListOptions {
        limit: Some(251),
        ..ApplicationListOptions::default()
    };
    let fields = invalid(api.list(Some(options)).await)?;
    assert_eq!(fields[0].loc, ["query", "limit"]);
    Ok("401, 404, 409 and 422 are the SDK's own errors and say what is wrong")
}

pub async fn cloud_only(run: &Run) -> Shown {
    let (status, body) = refused(run.svix.connector().list(None).await)?;
    assert!(
        matches!(status, 404 | 501) && !body.code.is_empty() && !body.detail.is_empty(),
        "{status} {body:?}"
    );
    Ok("a feature that only the hosted service has is refused with an error that the SDK can read")
}
