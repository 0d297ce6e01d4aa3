//! Who takes which connections: what the API waits for, and what a customer reads, never makes the queue or another customer
//! wait.

use postrider::error::Result;
use postrider::store::intake::Accepted;

use crate::harness::{DEADLINE, Receiver, Rig, within};

// As where an operator has set `lock_timeout` or `transaction_timeout` for the role.
postgres_only!(
    work_that_an_operators_timeout_ends_is_tried_again_and_nothing_is_refused_or_lost,
    async |db| {
        let mut rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        rig.endpoint(&app, "e", &receiver.url()).await;
        let running = rig.run();
        for sql in [
            "create sequence tries",
            "create function not_now() returns trigger language plpgsql as $$ begin \
             if nextval('tries') <= 5 then raise 'not now' using errcode = tg_argv[0]; end if; return new; end $$",
        ] {
            rig.sql(sql, []).await;
        }
        let mut sent = 0;
        for code in ["55P03", "25P04"] {
            for table in ["message", "attempt"] {
                rig.sql("alter sequence tries restart", []).await;
                let trigger = format!(
                    "create trigger not_now before insert on {table} for each row execute function not_now('{code}')"
                );
                rig.sql(&trigger, []).await;
                let accepted: Result<Accepted> = rig.intake.accept(rig.message(&app, "{}")).await;
                let id = accepted.expect("it is accepted after some tries").message_id;
                within(DEADLINE, "its outcome is recorded", async || {
                    (rig.state(&id).await == "delivered").then_some(())
                })
                .await;
                assert_eq!(rig.count(&format!("attempt where message_id = '{id}'")).await, 1);
                rig.sql(&format!("drop trigger not_now on {table}"), []).await;
                sent += 1;
            }
        }
        running.stop(true).await;
        assert_eq!(receiver.count(), sent, "nothing is sent twice");
    }
);
