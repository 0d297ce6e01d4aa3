//! Planner statistics that cannot be renewed, because `analyze` fails or the role may not run it.

use postrider::store::queue;
use sea_orm::ConnectionTrait;

use crate::fairness::backlog;
use crate::harness::{Receiver, Rig, Shape};

postgres_only!(
    statistics_that_cannot_be_renewed_keep_nothing_from_being_claimed,
    async |db| {
        let mut rig = Rig::on(db).await;
        rig.sql(
            "create function in_vain(text) returns text language plpgsql immutable as $$ begin \
             if current_query() ilike 'analyze%' then raise 'no statistics'; end if; return $1; end $$",
            [],
        )
        .await;
        rig.sql("create index in_vain on delivery (in_vain(id))", []).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        let endpoint = rig.endpoint(&app, "e", &receiver.url()).await;
        backlog(&rig, &app, &endpoint, 10_000, 0).await;
        queue::renew_statistics(&rig.store).await.expect_err("Postgres refuses");
        let running = rig.run();
        receiver.wait_for(1).await;
        running.stop(false).await;
    }
);

postgres_only!(
    a_role_that_may_not_renew_the_statistics_is_told_that_they_do_not_fit,
    async |db| {
        let owner = db.connect().await;
        let role = format!("guest_{}", std::process::id());
        let sql = format!("create role {role}; grant all on all tables in schema public to {role}");
        owner.execute_unprepared(&sql).await.expect(&sql);
        let shape = Shape {
            url: Some(format!("{}?options=-c%20role%3D{role}", db.url())),
            ..Shape::default()
        };
        let rig = Rig::shaped(db, shape).await;
        assert!(
            queue::renew_statistics(&rig.store).await.unwrap(),
            "the statistics fit a small queue"
        );
        backlog(&rig, "app_a", "ep_e", 10_000, 0).await;
        assert!(!queue::renew_statistics(&rig.store).await.unwrap());
        let sql = format!("drop owned by {role}; drop role {role}");
        owner.execute_unprepared(&sql).await.expect(&sql);
    }
);
