//! Shows that a repeated request is carried out once.

use serde_json::json;
use svix::models::MessageIn;

use crate::lossy_proxy::{BAD_GATEWAY, BROKEN_CONNECTION, LossyProxy};
use crate::run::{Outcome, Run, Shown, client, new_name, refused};

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
    Ok("if a gateway loses the response, the SDK repeats the request with the same key, and one message exists")
}

pub async fn broken_connection(run: &Run) -> Shown {
    answer_is_lost_as(BROKEN_CONNECTION, run).await?;
    Ok("if the connection breaks before the response, the request is repeated with its key, and one message exists")
}

/// Sends a message through a proxy that replaces the first response by `instead`.
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
    assert!(
        listed.data.iter().map(|message| &message.id).eq([&sent.id]),
        "{listed:?}"
    );
    Ok(())
}
