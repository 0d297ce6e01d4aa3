//! Contents that a customer removes through the API: a message's payload, the answer in an attempt.

use serde_json::json;

use crate::api::Api;
use crate::harness::{self, Receiver};

/// Creates the application `a` with the endpoint `e`, and the message `m` with one attempt, which was answered with
/// 500.
async fn prepared(db: &harness::TestDatabase) -> (Api, Receiver) {
    let mut api = Api::on(db).await;
    let receiver = Receiver::start().await;
    receiver.answer(harness::Answer::status(500).body("broken"));
    api.post("/app", json!({"name": "a", "uid": "a"})).await.expect(201);
    let endpoint = json!({"url": receiver.url(), "uid": "e"});
    api.post("/app/a/endpoint", endpoint).await.expect(201);
    let message = json!({"eventType": "t", "eventId": "m", "payload": {"k": 1}});
    api.post("/app/a/msg", message).await.expect(202);
    api.rig.drain().await;
    (api, receiver)
}

both!(
    delete_msg_content_answers_204_and_leaves_the_message_and_its_attempts,
    async |db| {
        let (mut api, receiver) = prepared(db).await;
        for _ in 0..2 {
            let answer = api.delete("/app/a/msg/m/content").await;
            answer.expect(204);
            assert!(answer.text.is_empty());
        }
        let message = api.get("/app/a/msg/m").await;
        assert_eq!(message.expect(200)["payload"], json!({"expired": true}));
        assert_eq!(api.rig.count("message_content").await, 0);
        api.rig.advance(7);
        api.rig.drain().await;
        assert_eq!(receiver.count(), 1, "the retry ends without an attempt");
        let (attempts, at_endpoint) = (
            api.get("/app/a/attempt/msg/m").await,
            api.get("/app/a/endpoint/e/msg").await,
        );
        assert_eq!(attempts.expect(200)["data"].as_array().unwrap().len(), 1);
        assert_eq!(at_endpoint.expect(200)["data"][0]["status"], 2);
        assert_eq!(api.rig.count("delivery").await, 0);
    }
);

both!(
    delete_attempt_content_answers_204_and_the_response_reads_expunged,
    async |db| {
        let (api, _receiver) = prepared(db).await;
        let list = api.get("/app/a/attempt/msg/m").await;
        let id = list.expect(200)["data"][0]["id"].as_str().unwrap();
        let path = format!("/app/a/msg/m/attempt/{id}");
        assert_eq!(api.get(&path).await.expect(200)["response"], "broken");
        for _ in 0..2 {
            api.delete(&format!("{path}/content")).await.expect(204);
        }
        let attempt = api.get(&path).await;
        assert_eq!(
            (&attempt.expect(200)["response"], &attempt.json["responseStatusCode"]),
            (&json!("EXPUNGED"), &json!(500))
        );
    }
);

both!(only_an_organization_expunges_and_only_what_there_is, async |db| {
    let (api, _receiver) = prepared(db).await;
    let list = api.get("/app/a/attempt/msg/m").await;
    let id = list.json["data"][0]["id"].as_str().unwrap().to_owned();
    let app = api.get("/app/a").await.field("id");
    let other = api.application("other").await;
    let (token, stranger) = (api.token_of(&app).await, api.stranger().await);
    for rest in ["msg/m/content".to_owned(), format!("msg/m/attempt/{id}/content")] {
        let path = format!("/app/a/{rest}");
        api.call(&token, "DELETE", &path, &[], "")
            .await
            .refused(403, "insufficient access");
        api.call(&stranger, "DELETE", &path, &[], "")
            .await
            .refused(404, "not_found");
        api.delete(&format!("/app/{other}/{rest}"))
            .await
            .refused(404, "not_found");
    }
    for path in [
        "/app/a/msg/none/content".to_owned(),
        "/app/a/msg/m/attempt/none/content".to_owned(),
        format!("/app/a/msg/none/attempt/{id}/content"),
    ] {
        api.delete(&path).await.refused(404, "not_found");
    }
    assert_eq!(api.rig.count("message_content").await, 1);
    assert_eq!(api.rig.count("attempt where response = 'broken'").await, 1);
});
