//! Supervision: a loop that panics ends the process, and a process that starts later does the work that is left.

use std::collections::BTreeMap;

use crate::crash::{TOKEN, message, program, subscribe};
use crate::harness::{Answer, Caller, DEADLINE, Receiver, within};

/// The points at which a loop panics, each with the loop's name in the log.
const LOOPS: [(&str, &str); 3] = [
    ("claimed:1", "claimer"),
    ("settle.before_commit:5", "settler"),
    ("accepted.before_commit:3", "intake"),
];

both!(
    a_loop_that_panics_ends_the_process_and_the_next_one_delivers_what_was_accepted,
    async |db| {
        let (receiver, caller) = (Receiver::start().await, Caller::new(TOKEN));
        let mut accepted = BTreeMap::new();
        let serving = &mut program(db).serve().await;
        subscribe(&serving.url(), &receiver, 1).await;
        assert_eq!(serving.stop().await, Some(0));
        let mut number = 0;
        for (point, name) in LOOPS {
            // The claimer claims retries.
            receiver.answer(Answer::status(503));
            let mut serving = program(db).env("POSTRIDER_PANIC_POINT", point).serve().await;
            let url = serving.url();
            within(DEADLINE, "the process ends", async || {
                number += 1;
                let key = format!("key-{number}");
                let posted = caller.post(&url, "/app/shop/msg", &key, &message(number)).await;
                if let Ok((202, made)) = &posted {
                    accepted.insert(number, made["id"].as_str().expect("an id").to_owned());
                }
                posted.is_err().then_some(())
            })
            .await;
            assert_eq!(serving.end().await, Some(1), "{point}");
            let said = serving.stderr();
            assert!(said.contains(&format!("{name} panicked")), "{said}");
            assert!(said.contains("was told to panic"), "the log has the reason: {said}");
        }
        receiver.answer(Answer::ok());
        let mut serving = program(db).serve().await;
        within(DEADLINE, "all accepted messages arrive", async || {
            let arrivals = receiver.arrivals();
            let arrived = |id: &String| arrivals.iter().any(|arrival| arrival.message_id() == id);
            accepted.values().all(arrived).then_some(())
        })
        .await;
        assert_eq!(serving.stop().await, Some(0));
    }
);
