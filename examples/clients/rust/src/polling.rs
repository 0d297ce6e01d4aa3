//! Shows polling: reading messages without an address of one's own. The SDK reads and seeks; it does not make pollers.

use std::io::{Read, Write};
use std::net::TcpStream;

use chrono::{TimeDelta, Utc};
use serde_json::{Value, json};
use svix::api::{MessagePollerConsumerPollOptions, MessagePollerPollOptions};
use svix::models::{PollingEndpointConsumerSeekIn, PollingEndpointOut};

use crate::run::{Outcome, Run, Shown, eventually};

/// Makes a poller of an application, and returns its id.
///
/// # Errors
/// If the server cannot be reached or refuses.
fn make_poller(run: &Run, app: &str) -> Outcome<String> {
    let address = run.url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "POST /api/v1/app/{app}/poller HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{{}}",
        run.token
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("the response has no body")?;
    let made: Value = serde_json::from_str(body)?;
    Ok(made["id"].as_str().ok_or(answer.as_str())?.to_owned())
}

fn ids(page: &PollingEndpointOut) -> Vec<&str> {
    page.data.iter().map(|message| message.id.as_str()).collect()
}

pub async fn polling(run: &Run) -> Shown {
    let (messages, app) = (run.svix.message(), run.application("Polling").await?);
    let (api, poller) = (messages.poller(), make_poller(run, &app)?);
    let empty = api.poll(app.clone(), poller.clone(), None).await?;
    assert!(empty.data.is_empty() && empty.done && !empty.iterator.is_empty());
    let mut sent = Vec::new();
    for number in 0..3 {
        sent.push(run.send(&app, json!({ "number": number })).await?.id);
    }
    let read = async || Ok(api.poll(app.clone(), poller.clone(), None).await?);
    eventually(read, |page| ids(page) == sent).await?;
    let page = |iterator: &str| MessagePollerPollOptions {
        limit: Some(2),
        iterator: Some(iterator.to_owned()),
        ..MessagePollerPollOptions::default()
    };
    let first = api
        .poll(app.clone(), poller.clone(), Some(page(&empty.iterator)))
        .await?;
    assert_eq!(
        (ids(&first), first.done),
        (vec![sent[0].as_str(), sent[1].as_str()], false)
    );
    let rest = api
        .poll(app.clone(), poller.clone(), Some(page(&first.iterator)))
        .await?;
    assert_eq!((ids(&rest), rest.done), (vec![sent[2].as_str()], true));
    let end = api.poll(app, poller, Some(page(&rest.iterator))).await?;
    assert_eq!((ids(&end).len(), &end.iterator), (0, &rest.iterator));
    Ok("messages are polled page by page, and an empty page goes on where it began")
}

pub async fn consumer(run: &Run) -> Shown {
    let (messages, app) = (run.svix.message(), run.application("Consumer").await?);
    let (api, poller) = (messages.poller(), make_poller(run, &app)?);
    let sent = [
        run.send(&app, json!({"number": 0})).await?.id,
        run.send(&app, json!({"number": 1})).await?.id,
    ];
    let poll = async |limit, iterator| {
        let options = MessagePollerConsumerPollOptions { limit, iterator };
        let name = "c".to_owned();
        Outcome::Ok(
            api.consumer_poll(app.clone(), poller.clone(), name, Some(options))
                .await?,
        )
    };
    eventually(async || poll(None, None).await, |page| ids(page) == sent).await?;
    let first = poll(Some(1), None).await?;
    assert_eq!(
        (ids(&first), ids(&poll(Some(1), None).await?)),
        (vec![sent[0].as_str()], vec![sent[0].as_str()])
    );
    let second = poll(Some(1), Some(first.iterator)).await?;
    assert_eq!(ids(&second), [sent[1].as_str()]);
    let after = Utc::now() - TimeDelta::days(1);
    let body = PollingEndpointConsumerSeekIn::new(after);
    let place = api
        .consumer_seek(app.clone(), poller.clone(), "c".to_owned(), body, None)
        .await?;
    assert!(!place.iterator.is_empty());
    assert_eq!(ids(&poll(None, None).await?), sent);
    Ok("a consumer confirms what it has read, gets it again if it does not, and seeks")
}
