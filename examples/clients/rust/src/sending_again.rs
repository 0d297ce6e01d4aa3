//! Shows resend, recover and replay.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::json;
use svix::api::BackgroundTaskListOptions;
use svix::models::{
    BackgroundTaskOut, BackgroundTaskStatus, BackgroundTaskType, BulkReplayIn, MessageAttemptTriggerType, MessageIn,
    MessageOut, MessageStatus, RecoverIn, ReplayIn,
};

use crate::messages::attempts_of;
use crate::receiver::Inbox;
use crate::run::{Outcome, Run, Shown, eventually};

fn an_hour_before(message: &MessageOut) -> DateTime<Utc> {
    message.timestamp - TimeDelta::hours(1)
}

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
    Ok("a message is sent to an endpoint again, even if it was delivered")
}

/// Waits until the task is finished, and returns it.
async fn finished(run: &Run, task: &str) -> Outcome<BackgroundTaskOut> {
    let read = async || Ok(run.svix.background_task().get(task.to_owned()).await?);
    eventually(read, |task| task.status == BackgroundTaskStatus::Finished).await
}

/// Takes the next `count` deliveries and returns the ids of their messages, sorted.
async fn taken(inbox: &Inbox, count: usize) -> Outcome<Vec<String>> {
    let mut messages = Vec::new();
    for _ in 0..count {
        messages.push(inbox.take().await?.message()?);
    }
    messages.sort();
    Ok(messages)
}

pub async fn recover(run: &Run) -> Shown {
    let app = run.application("Recover").await?;
    let (endpoint, inbox) = run.endpoint(&app).await?;
    let delivered = run.send(&app, json!({"n": 0})).await?;
    attempts_of(run, &app, &delivered.id, 1).await?;
    inbox.take().await?;
    inbox.answer(500);
    let mut failed = Vec::new();
    for n in 1..4 {
        let message = run.send(&app, json!({"n": n})).await?.id;
        let attempt = attempts_of(run, &app, &message, 1).await?.remove(0);
        assert_eq!(
            (attempt.status, attempt.response_status_code),
            (MessageStatus::Fail, 500)
        );
        inbox.take().await?;
        failed.push(message);
    }

    inbox.answer(204);
    let task = run
        .svix
        .endpoint()
        .recover(
            app.clone(),
            endpoint.id,
            RecoverIn::new(an_hour_before(&delivered)),
            None,
        )
        .await?;
    assert!(
        task.id.starts_with("qtask_") && task.task == BackgroundTaskType::EndpointRecover,
        "{task:?}"
    );
    assert_eq!(taken(&inbox, 3).await?, failed);
    assert_eq!(finished(run, &task.id).await?.data["messagesSent"], 3);
    for message in &failed {
        let latest = attempts_of(run, &app, message, 2).await?.remove(0);
        assert_eq!(
            (latest.status, latest.trigger_type),
            (MessageStatus::Success, MessageAttemptTriggerType::Manual)
        );
    }
    attempts_of(run, &app, &delivered.id, 1).await?;
    let options = BackgroundTaskListOptions {
        status: Some(BackgroundTaskStatus::Finished),
        task: Some(BackgroundTaskType::EndpointRecover),
        ..BackgroundTaskListOptions::default()
    };
    let listed = run.svix.background_task().list(Some(options)).await?;
    assert!(
        inbox.is_empty() && listed.data.iter().any(|entry| entry.id == task.id),
        "{listed:?}"
    );
    Ok("recover sends failed messages again, and only those, in a background task that can be watched")
}

pub async fn replay_missing(run: &Run) -> Shown {
    let app = run.application("Replay missing").await?;
    let first = run.send(&app, json!({"n": 0})).await?;
    let missed = [first.id.clone(), run.send(&app, json!({"n": 1})).await?.id];
    let (endpoint, inbox) = run.endpoint(&app).await?;
    run.send(&app, json!({"n": 2})).await?;
    inbox.take().await?;
    let task = run
        .svix
        .endpoint()
        .replay_missing(app, endpoint.id, ReplayIn::new(an_hour_before(&first)), None)
        .await?;
    assert_eq!(task.task, BackgroundTaskType::EndpointReplay);
    assert_eq!(taken(&inbox, 2).await?, missed);
    assert_eq!(finished(run, &task.id).await?.data["messagesSent"], 2);
    assert!(inbox.is_empty());
    Ok("replay-missing sends the messages that an endpoint never got")
}

pub async fn bulk_replay(run: &Run) -> Shown {
    let app = run.application("Bulk replay").await?;
    let (endpoint, inbox) = run.endpoint(&app).await?;
    let wanted = run.send(&app, json!({"n": 1})).await?;
    let other = MessageIn::new("order.shipped".to_owned(), json!({"n": 2}));
    let other = run.svix.message().create(app.clone(), other, None).await?.id;
    for message in [&wanted.id, &other] {
        attempts_of(run, &app, message, 1).await?;
        inbox.take().await?;
    }
    let body = BulkReplayIn {
        event_types: Some(["order.paid".to_owned()].into()),
        ..BulkReplayIn::new(an_hour_before(&wanted))
    };
    let task = run.svix.endpoint().bulk_replay(app, endpoint.id, body, None).await?;
    assert_eq!(task.task, BackgroundTaskType::EndpointBulkReplay);
    assert_eq!(inbox.take().await?.message()?, wanted.id);
    assert_eq!(finished(run, &task.id).await?.data["messagesSent"], 1);
    assert!(inbox.is_empty());
    Ok("bulk replay sends all messages that match its filter again, delivered or not")
}
