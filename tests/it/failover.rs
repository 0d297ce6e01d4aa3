//! A database that has lost its last writes, as after a failover to an asynchronous standby or after a restore. A
//! process must not rely on anything that it remembers of the lost writes.

use sea_orm::ConnectionTrait;
use serde_json::json;

use crate::crash::TOKEN;
use crate::harness::{Caller, DEADLINE, Program, Proxy, Receiver, Replicated, Rig, Shape, connect, rows, within};

/// Deletes the endpoint and restores the application's revision to the one in the table `kept`, without running any
/// trigger: the state after writes were lost.
async fn take_back_endpoint(rig: &Rig, id: &str) {
    let sql = format!(
        "set session_replication_role = replica; delete from endpoint where id = '{id}'; \
         update application set revision = kept.revision from kept where application.id = kept.id; \
         set session_replication_role = origin"
    );
    rig.db.execute_unprepared(&sql).await.expect(&sql);
}

/// Returns the receiver's paths at which the message has arrived, sorted.
fn paths(receiver: &Receiver, message_id: &str) -> Vec<String> {
    let arrivals = receiver.arrivals();
    let of_message = arrivals.iter().filter(|arrival| arrival.message_id() == message_id);
    let mut paths: Vec<String> = of_message.map(|arrival| arrival.path.clone()).collect();
    paths.sort();
    paths
}

postgres_only!(
    an_endpoint_that_was_lost_and_made_anew_gets_every_later_message,
    async |db| {
        let mut rig = Rig::on(db).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        rig.endpoint(&app, "base", &receiver.url_of("/base")).await;
        rig.db
            .execute_unprepared("create table kept as select id, revision from application")
            .await
            .expect("a copy");
        let lost = rig.endpoint(&app, "lost", &receiver.url_of("/lost")).await;
        let before = rig.accept(&app, "{}").await.message_id;
        rig.drain().await;
        assert_eq!(paths(&receiver, &before), ["/base", "/lost"]);
        take_back_endpoint(&rig, &lost).await;
        rig.endpoint(&app, "anew", &receiver.url_of("/anew")).await;
        let after = rig.accept(&app, "{}").await.message_id;
        rig.drain().await;
        assert_eq!(paths(&receiver, &after), ["/anew", "/base"]);
    }
);

// A new connection may lead to another server, so applications are read afresh whatever their revision says.
postgres_only!(
    what_was_remembered_over_a_connection_that_broke_is_read_anew,
    async |db| {
        let proxy = Proxy::to(db.url()).await;
        let shape = Shape {
            url: Some(proxy.url(db.url())),
            ..Shape::default()
        };
        let mut rig = Rig::shaped(db, shape).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        let lost = rig.endpoint(&app, "lost", &receiver.url_of("/lost")).await;
        for _ in 0..4 {
            rig.accept(&app, "{}").await;
        }
        rig.db
            .execute_unprepared("create table kept as select id, revision from application")
            .await
            .expect("a copy");
        rig.endpoint(&app, "anew", &receiver.url_of("/anew")).await;
        take_back_endpoint(&rig, &lost).await;
        proxy.cut();
        let mut after = Vec::new();
        for _ in 0..8 {
            after.push(rig.accept(&app, "{}").await.message_id);
        }
        within(DEADLINE, "the broken connections are replaced", async || {
            rig.try_step().await.ok()
        })
        .await;
        rig.drain().await;
        for message in &after {
            assert_eq!(paths(&receiver, message), ["/anew"]);
        }
    }
);

postgres_only!(
    after_a_failover_that_lost_an_endpoint_the_one_made_in_its_place_gets_every_message,
    async |_db| {
        let Some(mut servers) = Replicated::start() else { return };
        let receiver = Receiver::start().await;
        let proxy = Proxy::to(&servers.primary_url()).await;
        let program = Program::on(&proxy.url(&servers.primary_url()))
            .env("POSTRIDER_ADMIN_TOKEN", TOKEN)
            .env("POSTRIDER_ALLOW_TARGETS", "127.0.0.0/8");
        program.run(&["migrate", "up"]).await.ok();
        let serving = program.serve().await;
        let (server, caller) = (serving.url(), Caller::new(TOKEN));
        caller
            .make(&server, "/app", json!({"name": "shop", "uid": "shop"}))
            .await;
        let base = json!({"url": receiver.url_of("/base")});
        caller.make(&server, "/app/shop/endpoint", base).await;
        let standby = connect(&servers.standby_url()).await.expect("the standby answers");
        within(DEADLINE, "the standby has the first endpoint", async || {
            let found = rows(&standby, "select 1 from endpoint").await;
            (found.len() == 1).then_some(())
        })
        .await;
        standby.close().await.expect("the connection closes");

        servers.stop_standby();
        let lost = json!({"url": receiver.url_of("/lost")});
        caller.make(&server, "/app/shop/endpoint", lost).await;
        let message = |number: usize| json!({"eventType": "order.created", "payload": {"number": number}});
        let test = caller.make(&server, "/app/shop/msg", message(0)).await;
        receiver.wait_for(2).await;
        assert_eq!(
            paths(&receiver, test["id"].as_str().expect("an id")),
            ["/base", "/lost"]
        );

        servers.fail_over();
        proxy.lead_to(&servers.standby_url()).await;
        let anew = json!({"url": receiver.url_of("/anew")});
        within(DEADLINE, "the customer creates the endpoint again", async || {
            let made = caller.post(&server, "/app/shop/endpoint", "anew", &anew).await;
            made.ok().filter(|(status, _)| *status == 201)
        })
        .await;
        let mut accepted = Vec::new();
        for number in 1..=12 {
            let made = within(DEADLINE, "a message is accepted", async || {
                let path = "/app/shop/msg";
                let made = caller.post(&server, path, &number.to_string(), &message(number)).await;
                made.ok().filter(|(status, _)| *status == 202)
            })
            .await;
            accepted.push(made.1["id"].as_str().expect("an id").to_owned());
        }
        receiver.wait_for(2 + 2 * accepted.len()).await;
        for message in &accepted {
            assert_eq!(paths(&receiver, message), ["/anew", "/base"]);
        }
        drop(serving);
    }
);
