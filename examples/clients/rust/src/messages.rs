//! Shows messages, their deliveries, attempts and contents.

use std::collections::BTreeSet;

use serde_json::json;
use svix::api::{
    MessageAttemptListAttemptedMessagesOptions, MessageAttemptListByEndpointOptions, MessageAttemptListByMsgOptions,
    MessageCreateOptions, MessageGetOptions, MessageListOptions,
};
use svix::models::{
    ApplicationIn, EndpointIn, EventTypeIn, MessageAttemptOut, MessageAttemptTriggerType, MessageIn, MessageStatus,
    MessageStatusText, StatusCodeClass,
};

use crate::receiver::Delivery;
use crate::run::{Outcome, Run, Shown, eventually, new_name, refused};

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
    Ok("a message reaches the endpoints whose event types and channels match it")
}

/// Returns the message's attempts with the receivers' answers, as soon as there are `count` of them.
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
    let first = attempts_of(run, &app, &message.id, 1).await?.remove(0);
    assert_eq!(
        (&first.msg_id, &first.endpoint_id, &first.url),
        (&message.id, &created.id, &inbox.url)
    );
    assert_eq!(
        (first.status, first.status_text),
        (MessageStatus::Success, MessageStatusText::Success)
    );
    assert_eq!(
        (first.response_status_code, first.trigger_type),
        (200, MessageAttemptTriggerType::Scheduled)
    );
    assert_eq!(
        api.get(app.clone(), message.id.clone(), first.id.clone(), None)
            .await?
            .id,
        first.id
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
    assert_eq!(of_endpoint(delivered).await?, [first.id.as_str()]);
    let failed = MessageAttemptListByEndpointOptions {
        status: Some(MessageStatus::Fail),
        ..Default::default()
    };
    assert!(of_endpoint(failed).await?.is_empty());
    let earlier = MessageAttemptListByEndpointOptions {
        before: Some(first.timestamp),
        ..Default::default()
    };
    assert!(of_endpoint(earlier).await?.is_empty());
    Ok("the attempts are read by message, by endpoint and one by one, and filtered")
}

pub async fn attempted(run: &Run) -> Shown {
    let (app, api) = (run.application("Attempted").await?, run.svix.message_attempt());
    let endpoint = run.endpoint(&app).await?.0.id;
    let message = run.send(&app, json!({"n": 1})).await?.id;
    attempts_of(run, &app, &message, 1).await?;
    let options = MessageAttemptListAttemptedMessagesOptions {
        status: Some(MessageStatus::Success),
        with_content: Some(true),
        ..Default::default()
    };
    let messages = api
        .list_attempted_messages(app.clone(), endpoint.clone(), Some(options))
        .await?
        .data;
    assert_eq!(
        (messages.len(), &messages[0].id, &messages[0].payload),
        (1, &message, &json!({"n": 1}))
    );
    assert_eq!(messages[0].status_text, MessageStatusText::Success);
    let destinations = api.list_attempted_destinations(app, message, None).await?.data;
    assert_eq!((destinations.len(), &destinations[0].id), (1, &endpoint));
    assert_eq!(destinations[0].status, MessageStatus::Success);
    Ok("the messages of an endpoint and the endpoints of a message are listed, each with its state")
}

pub async fn tags(run: &Run) -> Shown {
    let app = run.application("Tags").await?;
    let endpoint = run.endpoint(&app).await?.0.id;
    let mut sent = Vec::new();
    for tags in [&["project 1337", "gift"][..], &["project 1337"]] {
        let body = MessageIn {
            tags: Some(tags.iter().map(|tag| (*tag).to_owned()).collect()),
            ..MessageIn::new("order.paid".to_owned(), json!({"n": 1}))
        };
        let message = run.svix.message().create(app.clone(), body, None).await?;
        assert_eq!(message.tags.map(|tags| tags.len()), Some(tags.len()));
        attempts_of(run, &app, &message.id, 1).await?;
        sent.insert(0, message.id);
    }
    for (tag, expected) in [("gift", &sent[1..]), ("project 1337", &sent[..]), ("none", &[])] {
        for listed in tagged(run, &app, &endpoint, tag).await? {
            assert_eq!(listed, expected, "{tag}");
        }
    }
    let of_message = MessageAttemptListByMsgOptions {
        tag: Some("gift".to_owned()),
        ..Default::default()
    };
    let api = run.svix.message_attempt();
    let page = api.list_by_msg(app, sent[0].clone(), Some(of_message)).await?;
    assert!(page.data.is_empty());
    Ok("messages and attempts are listed by a tag of the message")
}

/// Returns the ids of the messages with a tag that each of the lists has.
async fn tagged(run: &Run, app: &str, endpoint: &str, tag: &str) -> Outcome<[Vec<String>; 3]> {
    let (app, endpoint, tag) = (app.to_owned(), endpoint.to_owned(), Some(tag.to_owned()));
    let options = MessageListOptions {
        tag: tag.clone(),
        ..Default::default()
    };
    let messages = run.svix.message().list(app.clone(), Some(options)).await?.data;
    let options = MessageAttemptListByEndpointOptions {
        tag: tag.clone(),
        ..Default::default()
    };
    let api = run.svix.message_attempt();
    let attempts = api
        .list_by_endpoint(app.clone(), endpoint.clone(), Some(options))
        .await?;
    let options = MessageAttemptListAttemptedMessagesOptions {
        tag,
        ..Default::default()
    };
    let attempted = api.list_attempted_messages(app, endpoint, Some(options)).await?;
    Ok([
        messages.into_iter().map(|message| message.id).collect(),
        attempts.data.into_iter().map(|attempt| attempt.msg_id).collect(),
        attempted.data.into_iter().map(|message| message.id).collect(),
    ])
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
    Ok("payloads and answers are left out or returned, as the SDK asks")
}

pub async fn expunge(run: &Run) -> Shown {
    let (app, api) = (run.application("Expunge").await?, run.svix.message_attempt());
    let (endpoint, _) = run.endpoint(&app).await?;
    let message = run.send(&app, json!({"name": "Ada"})).await?.id;
    let attempt = attempts_of(run, &app, &message, 1).await?.remove(0);
    api.expunge_content(app.clone(), message.clone(), attempt.id).await?;
    assert_eq!(attempts_of(run, &app, &message, 1).await?[0].response, "EXPUNGED");
    run.svix.message().expunge_content(app.clone(), message.clone()).await?;
    let options = MessageGetOptions {
        with_content: Some(true),
    };
    let left = run
        .svix
        .message()
        .get(app.clone(), message.clone(), Some(options))
        .await?;
    assert_eq!(left.payload, json!({"expired": true}));
    let (status, gone) = refused(api.resend(app, message, endpoint.id, None).await)?;
    assert_eq!((status, gone.code.as_str()), (400, "missing_payload"));
    Ok("a payload and an answer can be removed; the message can then not be sent again")
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
    Ok("a message can create the application that it is for")
}
