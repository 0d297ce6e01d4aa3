//! Shortages of this machine, such as too few file descriptors, do not count as failures of an endpoint.

use serde_json::json;

use crate::harness::{Answer, Caller, DEADLINE, Program, Receiver, Serving, TestDatabase, rows, within};

/// Limits the number of files that the process may open. The hard limit stays, so that the limit can be raised again.
fn limit_files(serving: &Serving, most: u64) {
    let pid = i32::try_from(serving.pid()).expect("a process id");
    let (mut soft, mut hard) = (0, 0);
    rlimit::prlimit(pid, rlimit::Resource::NOFILE, None, Some((&mut soft, &mut hard))).expect("the limit is read");
    let wanted = Some((most.min(hard), hard));
    rlimit::prlimit(pid, rlimit::Resource::NOFILE, wanted, None).expect("the limit is set");
}

/// Serves the database, lets the program open no more files, and accepts a message for an endpoint at `url`. Returns
/// when the log has reported the shortage, and asserts that no attempt is recorded until then.
async fn run_short(db: &TestDatabase, url: &str) -> Serving {
    let first = Receiver::start().await;
    first.answer(Answer::ok().header("connection", "close"));
    let token = "a-token-of-the-operator";
    let serving = Program::on(db.url())
        .env("POSTRIDER_ADMIN_TOKEN", token)
        .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8")
        .serve()
        .await;
    let (caller, server) = (Caller::new(token), serving.url());
    let message = |key: &str| json!({"eventType": "a", "payload": {"k": key}});
    for (app, url) in [("warm", first.url().as_str()), ("shop", url)] {
        caller.make(&server, "/app", json!({"name": app, "uid": app})).await;
        caller
            .make(&server, &format!("/app/{app}/endpoint"), json!({"url": url}))
            .await;
    }
    // The first message makes the program open everything that it opens only once.
    caller.make(&server, "/app/warm/msg", message("first")).await;
    first.wait_for(1).await;

    // Only the standard streams have numbers below this limit, so the program can open nothing, whatever it closes. The
    // caller's connection and those to the database are open already. Connections could not be used to take up the
    // descriptors, because the program closes some to make room.
    limit_files(&serving, 3);
    let accepted = within(DEADLINE, "the message is accepted", async || {
        let answer = caller.post(&server, "/app/shop/msg", "key", &message("second")).await;
        answer.ok().filter(|(status, _)| *status == 202)
    })
    .await;
    assert!(accepted.1["id"].is_string());
    within(DEADLINE, "the log reports the shortage", async || {
        serving.stderr().contains("too few file descriptors").then_some(())
    })
    .await;
    let connection = db.connect().await;
    let attempts = "select 1 from attempt join application on application.id = attempt.app_id where uid = 'shop'";
    assert_eq!(rows(&connection, attempts).await.len(), 0, "nothing counts as failed");
    serving
}

both!(
    a_delivery_that_this_machine_had_no_descriptor_for_is_given_back_and_not_counted,
    async |db| {
        let receiver = Receiver::start().await;
        let serving = run_short(db, &receiver.url()).await;
        assert_eq!(receiver.count(), 0);

        limit_files(&serving, u64::MAX);
        receiver.wait_for(1).await;
        let connection = db.connect().await;
        let attempt = within(DEADLINE, "the attempt is recorded", async || {
            let sql =
                "select delivered from attempt join application on application.id = attempt.app_id where uid = 'shop'";
            let mut found = rows(&connection, sql).await;
            assert!(found.len() < 2, "there is a single attempt");
            found.pop()
        })
        .await;
        assert!(attempt.try_get::<bool>("", "delivered").unwrap());
    }
);

both!(
    a_name_that_this_machine_had_no_descriptor_to_look_up_is_no_failure_either,
    async |db| {
        // The name need not exist, because no name server can be asked without a socket.
        run_short(db, "http://receiver.test/").await;
    }
);
