//! Names of receivers: which server is asked for them, how long an answer is remembered, and that a silent name server
//! slows no other customer.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use postrider::domain::target::NOT_CALLED;
use postrider::slots::Caps;

use crate::harness::{Answer, DEADLINE, NameServer, Receiver, Rig, Shape, TestDatabase, Zone, rows, within};

const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;

async fn asking(db: &TestDatabase, server: &NameServer) -> Rig {
    let shape = Shape {
        name_server: Some(server.address()),
        ..Shape::default()
    };
    Rig::shaped(db, shape).await
}

fn url(name: &str, receiver: SocketAddr) -> String {
    format!("http://{name}:{}/", receiver.port())
}

/// Returns the texts of all attempts that had no answer.
async fn reasons(rig: &Rig) -> Vec<String> {
    let sql = "select response from attempt where response_status = 0 order by endpoint_id";
    let found = rows(&rig.db, sql).await;
    found.iter().map(|row| row.try_get("", "response").unwrap()).collect()
}

both!(a_name_is_asked_for_again_when_its_time_to_live_is_over, async |db| {
    let zones = [
        ("lasting.test", Zone::Address(HERE, 3600)),
        ("brief.test", Zone::Address(HERE, 0)),
    ];
    let server = NameServer::start(zones).await;
    let mut rig = asking(db, &server).await;
    let receiver = Receiver::start().await;
    // With this each delivery opens a connection of its own.
    receiver.answer(Answer::ok().header("connection", "close"));
    let app = rig.application("a").await;
    for (number, (name, _)) in zones.iter().enumerate() {
        rig.endpoint(&app, &number.to_string(), &url(name, receiver.address()))
            .await;
    }
    for _ in 0..3 {
        rig.accept(&app, "{}").await;
        rig.step().await;
    }
    assert_eq!(receiver.count(), 6);
    assert_eq!((server.asked("lasting.test"), server.asked("brief.test")), (1, 3));
});

both!(a_name_without_an_answer_for_ipv6_is_reached_over_ipv4, async |db| {
    let server = NameServer::start([("half.test", Zone::OnlyIpv4(HERE))]).await;
    let mut rig = asking(db, &server).await;
    let receiver = Receiver::start().await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", &url("half.test", receiver.address())).await;
    rig.accept(&app, "{}").await;
    rig.step().await;
    assert_eq!(reasons(&rig).await, [""; 0]);
    assert_eq!(receiver.count(), 1);
    assert_eq!(server.asked("half.test"), 1);
});

both!(
    a_name_that_does_not_exist_and_one_that_is_not_public_have_the_same_text,
    async |db| {
        let private = Zone::Address(Ipv4Addr::new(10, 1, 2, 3), 60);
        let server = NameServer::start([("private.test", private)]).await;
        let shape = Shape {
            targets: "",
            name_server: Some(server.address()),
            ..Shape::default()
        };
        let mut rig = Rig::shaped(db, shape).await;
        let app = rig.application("a").await;
        let hosts = ["private.test", "missing.test", "localhost", "10.1.2.3", "[::1]"];
        for (number, host) in hosts.iter().enumerate() {
            rig.endpoint(&app, &number.to_string(), &format!("http://{host}/"))
                .await;
        }
        rig.accept(&app, "{}").await;
        rig.step().await;
        assert_eq!(reasons(&rig).await, [NOT_CALLED; 5]);
        assert!(!NOT_CALLED.contains("POSTRIDER"), "a customer can set nothing");
    }
);

both!(a_failing_name_server_is_distinguished_from_a_missing_name, async |db| {
    let server = NameServer::start([("failing.test", Zone::Fails)]).await;
    let mut rig = asking(db, &server).await;
    let app = rig.application("a").await;
    rig.endpoint(&app, "e", "http://failing.test/").await;
    rig.accept(&app, "{}").await;
    rig.step().await;
    let reason = reasons(&rig).await.remove(0);
    assert!(
        reason.starts_with("could not resolve the name failing.test: "),
        "{reason}"
    );
});

both!(
    a_name_that_was_not_answered_in_time_is_not_looked_up_again_at_once,
    async |db| {
        let server = NameServer::start([("silent.test", Zone::Silent)]).await;
        let shape = Shape {
            attempt_timeout: Duration::from_millis(600),
            name_server: Some(server.address()),
            ..Shape::default()
        };
        let mut rig = Rig::shaped(db, shape).await;
        let app = rig.application("a").await;
        for name in ["1", "2"] {
            rig.endpoint(&app, name, "http://silent.test/").await;
        }
        let mut asked = Vec::new();
        for _ in 0..2 {
            rig.accept(&app, "{}").await;
            rig.step().await;
            asked.push(server.asked("silent.test"));
        }
        assert!(
            (1..=2).contains(&asked[0]),
            "one lookup for both endpoints asks twice at most: {asked:?}"
        );
        assert_eq!(asked[0], asked[1], "no lookup for the second message");
        assert_eq!(
            reasons(&rig).await,
            ["could not resolve the name silent.test: its name servers did not answer in time"; 4]
        );
    }
);

/// Returns the p99 of the time until a message arrives: the second longest of 100. Each message goes to an endpoint
/// whose name was never looked up before.
async fn p99(rig: &Rig, receiver: &Receiver, round: &str) -> Duration {
    const MESSAGES: usize = 100;
    let mut waits = Vec::new();
    for number in 0..MESSAGES {
        let name = format!("{round}{number}");
        let app = rig.application(&name).await;
        rig.endpoint(&app, &name, &url(&format!("{name}.healthy.test"), receiver.address()))
            .await;
        let before = receiver.count();
        let begun = Instant::now();
        rig.accept(&app, "{}").await;
        receiver.wait_for(before + 1).await;
        waits.push(begun.elapsed());
    }
    waits.sort();
    waits[MESSAGES - 2]
}

both!(
    a_thousand_silent_names_of_one_customer_do_not_slow_another,
    async |db| {
        let zones = [("healthy.test", Zone::Address(HERE, 60)), ("silent.test", Zone::Silent)];
        let server = NameServer::start(zones).await;
        let caps = Caps {
            process: 1_024,
            endpoint: 128,
        };
        let shape = Shape {
            caps,
            attempt_timeout: Duration::from_secs(30),
            name_server: Some(server.address()),
            ..Shape::default()
        };
        let mut rig = Rig::shaped(db, shape).await;
        let receiver = Receiver::start().await;
        let silent = rig.application("silent").await;
        rig.endpoints(&silent, 1_000, "").await;
        let names = "update endpoint set url = 'http://' || replace(id, '_', '-') || '.silent.test/'";
        rig.sql(names, []).await;
        let running = rig.run();
        let alone = p99(&rig, &receiver, "alone").await;
        rig.accept(&silent, "{}").await;
        within(DEADLINE, "the customer's share of lookups is under way", async || {
            (server.names() >= 100 + 128).then_some(())
        })
        .await;
        // A silent lookup takes ten seconds, so a delivery that waited for one would take longer than this bound. The
        // bound does not measure speed, because tests beside this one slow the machine.
        let beside = p99(&rig, &receiver, "beside").await;
        println!("p99 alone {alone:?}, beside a thousand silent names {beside:?}");
        assert!(beside < Duration::from_secs(5), "{alone:?} became {beside:?}");
        running.stop(false).await;
    }
);
