//! A stall of the database, with real processes and in real time: no process is declared dead, and nothing is sent
//! twice.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::future::join_all;

use crate::crash::{TOKEN, count, everything_arrived, payload_of, post_to, program, subscribe};
use crate::harness::{Answer, Caller, DEADLINE, Gate, Proxy, Receiver, within};
use crate::metrics::{probes_of, value};

/// Five times as long as a heartbeat may stand still.
const STALL: Duration = Duration::from_secs(20);
/// The messages in flight when the stall begins, half of them in each process.
const IN_FLIGHT: usize = 12;
/// The messages that are posted during the stall.
const MEANWHILE: usize = 12;
/// The number of heartbeats to wait for under the owner ids that follow the stall: some six seconds, longer than it
/// takes to declare a process dead.
const BEATS: usize = 24;

postgres_only!(
    a_stall_of_the_database_of_20_s_makes_neither_process_dead_and_repeats_nothing,
    async |db| {
        let proxy = Proxy::to(db.url()).await;
        let program = program(db)
            .env("DATABASE_URL", &proxy.url(db.url()))
            .env("POSTRIDER_LOG", "info,postrider::dispatcher=debug")
            .env("POSTRIDER_METRICS_LISTEN", "127.0.0.1:0");
        let servings = [program.serve().await, program.serve().await];
        let (receiver, during, after) = (Receiver::start().await, Gate::closed(), Gate::closed());
        subscribe(&servings[0].url(), &receiver, 1).await;
        let (ends_during, ends_after) = (Answer::ok().behind(&during), Answer::ok().behind(&after));
        receiver.answer_by(move |arrival| match payload_of(arrival)["number"].as_u64() {
            Some(number) if number < IN_FLIGHT as u64 / 2 => ends_during.clone(),
            Some(number) if number < IN_FLIGHT as u64 => ends_after.clone(),
            _ => Answer::ok(),
        });
        let post = async |number: usize| (number, post_to(&servings[number % 2], number).await);
        let mut accepted = BTreeMap::new();
        for number in 0..IN_FLIGHT {
            accepted.extend([post(number).await]);
        }
        receiver.wait_for(IN_FLIGHT).await;

        let connection = db.connect().await;
        proxy.stall();
        during.open();
        let (posted, ()) = tokio::join!(join_all((IN_FLIGHT..IN_FLIGHT + MEANWHILE).map(post)), async {
            tokio::time::sleep(STALL).await;
            assert_eq!(count(&connection, "message").await, IN_FLIGHT as i64, "nothing passes");
            assert_eq!(count(&connection, "attempt").await, 0, "nothing passes");
            proxy.resume();
            after.open();
        });
        accepted.extend(posted);
        let watched = format!("process where beat >= {BEATS}");
        within(DEADLINE, "both have watched each other for long enough", async || {
            (count(&connection, &watched).await == 2).then_some(())
        })
        .await;

        everything_arrived(db, &receiver, &accepted, 1).await;
        assert_eq!(receiver.count(), accepted.len(), "each arrived once");
        assert_eq!(count(&connection, "attempt").await, accepted.len() as i64);
        assert_eq!(count(&connection, "process").await, 2);
        for serving in &servings {
            let page = Caller::new(TOKEN)
                .text(&format!("{}/metrics", probes_of(serving)))
                .await;
            assert_eq!(value(&page, "postrider_leases_taken_over_total"), 0.0);
            let said = serving.stderr();
            assert!(
                said.contains("own beats came late"),
                "the process has noticed the stall: {said}"
            );
            assert!(!said.contains("a process is dead"), "{said}");
        }
    }
);
