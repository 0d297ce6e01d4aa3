//! What this machine lacks is no failure of an endpoint.

use std::collections::HashSet;

use serde_json::json;

use crate::harness::{Answer, Caller, DEADLINE, Program, Receiver, Serving, rows, within};

/// Lets the process open so many files, and no fewer later.
fn limit_files(serving: &Serving, most: u64) {
    let pid = i32::try_from(serving.pid()).expect("a process id");
    let (mut soft, mut hard) = (0, 0);
    rlimit::prlimit(pid, rlimit::Resource::NOFILE, None, Some((&mut soft, &mut hard))).expect("its limit is read");
    let wanted = Some((most.min(hard), hard));
    rlimit::prlimit(pid, rlimit::Resource::NOFILE, wanted, None).expect("its limit is set");
}

/// The lowest number that the next file of the process can have.
fn lowest_free(serving: &Serving) -> u64 {
    let files = std::fs::read_dir(format!("/proc/{}/fd", serving.pid())).expect("its files are listed");
    let numbers = files.map(|file| file.expect("a file").file_name().to_string_lossy().parse());
    let numbers: HashSet<u64> = numbers.map(|number| number.expect("a number")).collect();
    (0..).find(|number| !numbers.contains(number)).expect("a number")
}

both!(
    a_delivery_that_this_machine_had_no_descriptor_for_is_given_back_and_not_counted,
    async |db| {
        let (first, receiver) = (Receiver::start().await, Receiver::start().await);
        first.answer(Answer::ok().header("connection", "close"));
        let token = "a-token-of-the-operator";
        let serving = Program::on(db.url())
            .env("POSTRIDER_ADMIN_TOKEN", token)
            .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8")
            .serve()
            .await;
        let (caller, server) = (Caller::new(token), serving.url());
        let message = |key: &str| json!({"eventType": "a", "payload": {"k": key}});
        for (app, receiver) in [("warm", &first), ("shop", &receiver)] {
            caller.make(&server, "/app", json!({"name": app, "uid": app})).await;
            caller
                .make(&server, &format!("/app/{app}/endpoint"), json!({"url": receiver.url()}))
                .await;
        }
        // What it opens once is open, and the connection to the receiver is closed again.
        let connection = db.connect().await;
        caller.make(&server, "/app/warm/msg", message("first")).await;
        within(DEADLINE, "the first attempt is recorded", async || {
            (rows(&connection, "select 1 from attempt").await.len() == 1).then_some(())
        })
        .await;

        // What is open stays so, and the caller's connection is used again.
        limit_files(&serving, lowest_free(&serving));
        let accepted = within(DEADLINE, "the message is accepted", async || {
            let answer = caller.post(&server, "/app/shop/msg", "key", &message("second")).await;
            answer.ok().filter(|(status, _)| *status == 202)
        })
        .await;
        assert!(accepted.1["id"].is_string());
        within(DEADLINE, "the operator is told", async || {
            serving.stderr().contains("too few file descriptors").then_some(())
        })
        .await;
        let attempts = "select 1 from attempt join application on application.id = attempt.app_id where uid = 'shop'";
        assert_eq!(rows(&connection, attempts).await.len(), 0, "nothing counts as failed");
        assert_eq!(receiver.count(), 0);

        limit_files(&serving, u64::MAX);
        receiver.wait_for(1).await;
        let attempt = within(DEADLINE, "the attempt is recorded", async || {
            let sql =
                "select delivered from attempt join application on application.id = attempt.app_id where uid = 'shop'";
            let mut found = rows(&connection, sql).await;
            assert!(found.len() < 2, "there is one");
            found.pop()
        })
        .await;
        assert!(attempt.try_get::<bool>("", "delivered").unwrap());
    }
);
