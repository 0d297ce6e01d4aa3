//! A message, its delivery and its attempts; its content; a lost answer.

use std::collections::BTreeSet;

use serde_json::json;
use svix::api::{
    MessageAttemptListByEndpointOptions, MessageAttemptListByMsgOptions, MessageCreateOptions, MessageGetOptions,
    MessageListOptions,
};
use svix::models::{
    ApplicationIn, EndpointIn, EventTypeIn, MessageAttemptOut, MessageAttemptTriggerType, MessageIn, MessageStatus,
    MessageStatusText, StatusCodeClass,
};

use crate::lossy_proxy::{BAD_GATEWAY, BROKEN_CONNECTION, LossyProxy};
use crate::receiver::Delivery;
use crate::run::{Outcome, Run, Shown, client, eventually, new_name, refused};

pub async fn delivery(run: &Run) -> Shown {
    let app = run.application("Delivery").await?;
    let (created, inbox) = run.endpoint(&app).await?;
    let secret = run.svix.endpoint().get_secret(app.clone(), created.id).await?.key;
    let sent = run.send(&app, json!({"total": 1.1})).await?;
    assert!(
        sent.id.starts_with("msg_") && sent.event_type == "order.paid",
        "{sent:?}"
    );

    let arrived = inbox.take().await?;
    assert_eq!(arrived.verified(&secret)?, json!({"total": 1.1}));
    assert_eq!(arrived.body, br#"{"total":1.1}"#);
    assert_eq!(arrived.header("webhook-id"), Some(sent.id.as_str()));
    let changed = Delivery {
        headers: arrived.headers,
        body: br#"{"total":9.9}"#.to_vec(),
    };
    assert!(changed.verify(&secret).is_err());
    Ok("a message is delivered, and Webhook.verify accepts it and refuses a changed one")
}

/// The message's attempts with their answers, once there are as many as that.
pub async fn attempts_of(run: &Run, app: &str, message: &str, count: usize) -> Outcome<Vec<MessageAttemptOut>> {
    let read = async || {
        let options = MessageAttemptListByMsgOptions {
            with_content: Some(true),
            ..Default::default()
        };
        let page = run
            .svix
            .message_attempt()
            .list_by_msg(app.to_owned(), message.to_owned(), Some(options))
            .await?;
        Ok(page.data)
    };
    let attempts = eventually(read, |attempts| attempts.len() >= count).await?;
    assert_eq!(attempts.len(), count, "{attempts:?}");
    Ok(attempts)
}

pub async fn attempts(run: &Run) -> Shown {
    let (app, api) = (run.application("Attempts").await?, run.svix.message_attempt());
    let (created, inbox) = run.endpoint(&app).await?;
    inbox.answer(200);
    let message = run.send(&app, json!({"n": 1})).await?;
    let one = attempts_of(run, &app, &message.id, 1).await?.remove(0);
    assert_eq!(
        (&one.msg_id, &one.endpoint_id, &one.url),
        (&message.id, &created.id, &inbox.url)
    );
    assert_eq!(
        (one.status, one.status_text),
        (MessageStatus::Success, MessageStatusText::Success)
    );
    assert_eq!(
        (one.response_status_code, one.trigger_type),
        (200, MessageAttemptTriggerType::Scheduled)
    );
    assert_eq!(
        api.get(app.clone(), message.id.clone(), one.id.clone(), None).await?.id,
        one.id
    );

    let of_endpoint = async |options| -> Outcome<Vec<String>> {
        let page = api
            .list_by_endpoint(app.clone(), created.id.clone(), Some(options))
            .await?;
        Ok(page.data.into_iter().map(|attempt| attempt.id).collect())
    };
    let delivered = MessageAttemptListByEndpointOptions {
        status_code_class: Some(StatusCodeClass::Code2xx),
        event_types: Some(["order.paid".to_owned()].into()),
        ..Default::default()
    };
    assert_eq!(of_endpoint(delivered).await?, [one.id.as_str()]);
    let failed = MessageAttemptListByEndpointOptions {
        status: Some(MessageStatus::Fail),
        ..Default::default()
    };
    assert!(of_endpoint(failed).await?.is_empty());
    let earlier = MessageAttemptListByEndpointOptions {
        before: Some(one.timestamp),
        ..Default::default()
    };
    assert!(of_endpoint(earlier).await?.is_empty());
    Ok("the attempts are read by message, by endpoint and one by one, and filtered")
}

pub async fn content(run: &Run) -> Shown {
    let (app, api, payload) = (run.application("Content").await?, run.svix.message(), json!({"n": 1}));
    run.endpoint(&app).await?;
    let message = run.send(&app, payload.clone()).await?;
    assert_eq!(message.payload, json!({}));
    attempts_of(run, &app, &message.id, 1).await?;
    assert_eq!(api.get(app.clone(), message.id.clone(), None).await?.payload, json!({}));
    assert_eq!(api.list(app.clone(), None).await?.data[0].payload, json!({}));
    let without = run
        .svix
        .message_attempt()
        .list_by_msg(app.clone(), message.id.clone(), None)
        .await?;
    assert_eq!(without.data[0].response, "{}");

    let options = MessageGetOptions {
        with_content: Some(true),
    };
    assert_eq!(api.get(app.clone(), message.id, Some(options)).await?.payload, payload);
    let options = MessageListOptions {
        with_content: Some(true),
        event_types: Some(["order.paid".to_owned()].into()),
        ..Default::default()
    };
    assert_eq!(api.list(app.clone(), Some(options)).await?.data[0].payload, payload);
    let options = MessageCreateOptions {
        with_content: Some(true),
        idempotency_key: None,
    };
    let body = MessageIn::new("order.paid".to_owned(), payload.clone());
    assert_eq!(api.create(app, body, Some(options)).await?.payload, payload);
    Ok("payloads and answers are left out where the SDK leaves them out, and come when they are asked for")
}

pub async fn matching(run: &Run) -> Shown {
    let (app, paid, shipped) = (
        run.application("Matching").await?,
        new_name("order.paid"),
        new_name("order.shipped"),
    );
    for name in [&paid, &shipped] {
        run.svix
            .event_type()
            .create(EventTypeIn::new(name.clone(), String::new()), None)
            .await?;
    }
    let (_, all_types) = run.endpoint(&app).await?;
    let (paid_only, in_europe) = (run.receiver.inbox(), run.receiver.inbox());
    let filtered = EndpointIn {
        event_types: Some([paid.clone()].into()),
        ..EndpointIn::new(paid_only.url.clone())
    };
    run.svix.endpoint().create(app.clone(), filtered, None).await?;
    let channels = EndpointIn {
        channels: Some(["eu".to_owned()].into()),
        ..EndpointIn::new(in_europe.url.clone())
    };
    run.svix.endpoint().create(app.clone(), channels, None).await?;

    let first = run
        .svix
        .message()
        .create(app.clone(), MessageIn::new(shipped, json!({"n": 1})), None)
        .await?;
    let body = MessageIn {
        channels: Some(["eu".to_owned(), "us".to_owned()].into()),
        ..MessageIn::new(paid, json!({"n": 2}))
    };
    let second = run.svix.message().create(app, body, None).await?;
    let arrived = BTreeSet::from([all_types.take().await?.message()?, all_types.take().await?.message()?]);
    assert_eq!(arrived, BTreeSet::from([first.id, second.id.clone()]));
    assert_eq!(paid_only.take().await?.message()?, second.id);
    assert_eq!(in_europe.take().await?.message()?, second.id);
    assert!(paid_only.is_empty() && in_europe.is_empty());
    Ok("a message reaches the endpoints whose event types and channels fit it")
}

pub async fn raw_body(run: &Run) -> Shown {
    let (app, raw, content_type) = (
        run.application("Raw").await?,
        r#"{ "total": 1.10 }"#,
        "application/cloudevents+json",
    );
    let (created, inbox) = run.endpoint(&app).await?;
    let secret = run.svix.endpoint().get_secret(app.clone(), created.id).await?.key;
    let body = MessageIn::new_raw_payload("order.paid".to_owned(), raw.to_owned());
    run.svix
        .message()
        .create(app, body.with_content_type(content_type.to_owned()), None)
        .await?;
    let arrived = inbox.take().await?;
    arrived.verify(&secret)?;
    assert_eq!(
        (&arrived.body[..], arrived.header("content-type")),
        (raw.as_bytes(), Some(content_type))
    );
    Ok("a raw body is delivered byte for byte, with its own content type")
}

pub async fn application_on_the_way(run: &Run) -> Shown {
    let uid = new_name("customer");
    let application = ApplicationIn {
        uid: Some(uid.clone()),
        ..ApplicationIn::new("New customer".to_owned())
    };
    let body = MessageIn {
        application: Some(application),
        ..MessageIn::new("order.paid".to_owned(), json!({"n": 1}))
    };
    let message = run.svix.message().create(uid.clone(), body, None).await?;
    assert_eq!(run.svix.application().get(uid.clone()).await?.name, "New customer");
    assert_eq!(run.svix.message().list(uid, None).await?.data[0].id, message.id);
    Ok("a message can bring the application that it is for")
}

pub async fn taken_event_id(run: &Run) -> Shown {
    let (app, api, event_id) = (
        run.application("Event ids").await?,
        run.svix.message(),
        new_name("order"),
    );
    let body = |n: u8| MessageIn {
        event_id: Some(event_id.clone()),
        ..MessageIn::new("order.paid".to_owned(), json!({"n": n}))
    };
    let message = api.create(app.clone(), body(1), None).await?;
    assert_eq!(api.get(app.clone(), event_id.clone(), None).await?.id, message.id);
    let (status, refusal) = refused(api.create(app, body(2), None).await)?;
    assert_eq!((status, refusal.code.as_str()), (409, "conflict"));
    Ok("a message with an eventId is found by it, and a second one with it is refused")
}

pub async fn lost_answer(run: &Run) -> Shown {
    answer_is_lost_as(BAD_GATEWAY, run).await?;
    Ok("an answer that a gateway loses makes the SDK ask again with the same key, and one message exists")
}

pub async fn broken_connection(run: &Run) -> Shown {
    answer_is_lost_as(BROKEN_CONNECTION, run).await?;
    Ok("a connection that breaks before the answer: asked again with the same key, and one message exists")
}

async fn answer_is_lost_as(instead: &'static [u8], run: &Run) -> Outcome {
    let (app, proxy) = (
        run.application("Lost answer").await?,
        LossyProxy::start(&run.url, instead)?,
    );
    let body = MessageIn::new("order.paid".to_owned(), json!({"n": 1}));
    let sent = client(&proxy.url, &run.token)
        .message()
        .create(app.clone(), body, None)
        .await?;
    let keys = proxy.keys();
    assert!(
        keys.len() == 2 && keys[0] == keys[1] && keys[0].starts_with("auto_"),
        "{keys:?}"
    );
    let listed = run.svix.message().list(app, None).await?;
    assert!(listed.data.iter().map(|one| &one.id).eq([&sent.id]), "{listed:?}");
    Ok(())
}
