//! A machine's clock that steps between two heartbeats: the program goes by the database's clock, and must not notice.

use postrider::clock::Clock;

use crate::harness::{Receiver, Rig, Shape};

const SECOND: i64 = 1_000_000;
const HOUR: i64 = 3_600 * SECOND;

// A step of the dispatcher begins with a heartbeat, and accepting does not.
postgres_only!(
    what_is_stored_between_a_step_of_the_clock_and_the_next_beat_has_the_right_time,
    async |db| {
        let shape = Shape {
            clock: Clock::system(),
            ..Shape::default()
        };
        let mut rig = Rig::shaped(db, shape).await;
        let receiver = Receiver::start().await;
        let app = rig.application("a").await;
        rig.endpoint(&app, "e", &receiver.url()).await;
        for step in [HOUR, -HOUR, -HOUR, HOUR] {
            let (now, offset) = (rig.clock.now().0, rig.clock.offset());
            rig.clock.step(step);
            let accepted = rig.accept(&app, "{}").await;
            assert!((accepted.created_at.0 - now).abs() < 5 * SECOND, "{step}");
            let lease = format!(
                "delivery where owner is not null and due_at - {now} between 0 and {}",
                60 * SECOND
            );
            assert_eq!(rig.count(&lease).await, 1, "{step}");
            assert_eq!(rig.step().await.sent, 1);
            let stepped = offset - rig.clock.offset();
            assert!(
                (stepped - step).abs() < 5 * SECOND,
                "the beat has compared the clocks: {stepped}"
            );
            assert!((rig.clock.now().0 - now).abs() < 10 * SECOND, "{step}");
        }
    }
);
