//! Resend.

use serde_json::json;
use svix::models::MessageAttemptTriggerType;

use crate::messages::attempts_of;
use crate::run::{Run, Shown};

pub async fn resend(run: &Run) -> Shown {
    let app = run.application("Resend").await?;
    let (endpoint, inbox) = run.endpoint(&app).await?;
    let secret = run
        .svix
        .endpoint()
        .get_secret(app.clone(), endpoint.id.clone())
        .await?
        .key;
    let message = run.send(&app, json!({"n": 1})).await?.id;
    inbox.take().await?.verify(&secret)?;
    run.svix
        .message_attempt()
        .resend(app.clone(), message.clone(), endpoint.id, None)
        .await?;
    let again = inbox.take().await?;
    again.verify(&secret)?;
    assert_eq!(again.message()?, message);
    let mut triggers = attempts_of(run, &app, &message, 2)
        .await?
        .into_iter()
        .map(|attempt| attempt.trigger_type);
    assert!(triggers.any(|trigger| trigger == MessageAttemptTriggerType::Manual));
    Ok("a message is sent to an endpoint again, also one that was delivered")
}
