//! The harness itself: its HTTP receiver.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use postrider::clock::Clock;

use crate::harness::{Answer, Receiver};

fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

async fn post(to: &Receiver, body: &'static str) -> Result<(u16, String), String> {
    let request = Request::post(to.url_of("/hook?x=1"))
        .header("webhook-id", "msg_1")
        .body(Full::from(body))
        .expect("a request");
    let response = client().request(request).await.map_err(|err| err.to_string())?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.map_err(|err| err.to_string())?;
    Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
}

#[tokio::test]
async fn a_receiver_records_what_came_and_answers_as_told() {
    let receiver = Receiver::start().await;
    receiver.answer_next([
        Answer::status(503).header("retry-after", "7").body("busy"),
        Answer::cut(),
    ]);
    assert_eq!(post(&receiver, "one").await, Ok((503, "busy".to_owned())));
    assert!(
        post(&receiver, "two").await.is_err(),
        "a cut connection gives no answer"
    );
    assert_eq!(post(&receiver, "three").await, Ok((200, String::new())));
    let arrivals = receiver.wait_for(3).await;
    assert_eq!(arrivals[0].text(), "one");
    assert_eq!(
        (arrivals[0].method.as_str(), arrivals[0].path.as_str()),
        ("POST", "/hook?x=1")
    );
    assert_eq!(arrivals[2].message_id(), "msg_1");
}

#[tokio::test]
async fn a_receiver_hangs_delays_and_cuts_in_the_middle() {
    let receiver = Receiver::start().await;
    let short = Duration::from_millis(100);
    receiver.answer(Answer::hang());
    assert!(tokio::time::timeout(short, post(&receiver, "")).await.is_err());
    receiver.answer(Answer::ok().body("half").cut_in_body());
    assert!(post(&receiver, "").await.is_err(), "a body that is cut is an error");
    receiver.answer(Answer::ok().body("more ").endless());
    assert!(tokio::time::timeout(short, post(&receiver, "")).await.is_err());
    receiver.answer_by(|arrival| Answer::ok().body(arrival.body.clone()).after(Duration::from_millis(20)));
    assert_eq!(post(&receiver, "echo").await, Ok((200, "echo".to_owned())));
}

#[tokio::test]
async fn a_receiver_verifies_signatures_with_the_public_library() {
    let receiver = Receiver::start().await;
    let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let now = Clock::system().now().unix_seconds();
    let signature = standardwebhooks::Webhook::new(secret)
        .expect("a secret")
        .sign("msg_1", now, b"{}")
        .expect("a signature");
    let request = Request::post(receiver.url())
        .header("webhook-id", "msg_1")
        .header("webhook-timestamp", now.to_string())
        .header("webhook-signature", signature)
        .body(Full::from("{}"))
        .expect("a request");
    client().request(request).await.expect("an answer");
    let arrival = receiver.wait_for(1).await.remove(0);
    assert!(arrival.is_signed_with(secret));
    assert!(!arrival.is_signed_with("whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"));
}
