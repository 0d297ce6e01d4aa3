//! Faults that stop: a suspended process, clocks that step, and receivers that die.

use super::clock::FakeClock;
use super::ground::{Fault, Ground};
use crate::Failure;
use std::time::Duration;

/// Longer than the four seconds after which the others take over what a process had leased.
const SUSPENDED_MS: std::ops::Range<u64> = 5_000..7_000;
/// Longer than a lease, which lasts 30 s longer than an attempt may take.
const BEYOND_ANY_LEASE: Duration = Duration::from_secs(38);
/// How often a process is suspended for that long.
const LONG_ONE_IN: u64 = 6;

/// Suspends a process and lets it go on.
pub async fn suspend(ground: &mut Ground) -> Result<Fault, Failure> {
    let victim = ground.any_process();
    let long = ground.may_take_long && ground.chance.once_in(LONG_ONE_IN);
    let length = if long {
        BEYOND_ANY_LEASE
    } else {
        ground.chance.millis(SUSPENDED_MS)
    };
    ground.site.processes[victim].signal("STOP");
    tokio::time::sleep(length).await;
    ground.site.processes[victim].signal("CONT");
    Ok(ground.is_over(format!("process {victim} for {:.1} s", length.as_secs_f64())))
}

/// Starts a process with a clock of the harness's, steps the clock by so many seconds forward or back, and steps it
/// back to the right time after a while. Both steps are the fault.
pub async fn step_clock(ground: &mut Ground, seconds: i64) -> Result<Fault, Failure> {
    let by = if ground.chance.once_in(2) { seconds } else { -seconds };
    let clock = ground.clock.clone().ok_or("no process has a clock of the harness's")?;
    let length = ground.chance.millis(2_000..4_000);
    clock.step(by)?;
    tokio::time::sleep(length).await;
    clock.step(0)?;
    tokio::time::sleep(FakeClock::NOTICED_WITHIN).await;
    Ok(ground.is_over(format!("{by:+} s for {:.1} s", length.as_secs_f64())))
}

/// Makes all receivers reset their connections in the middle of their answers.
pub async fn receivers_die(ground: &mut Ground) -> Result<Fault, Failure> {
    let length = ground.chance.millis(800..2_500);
    ground.receivers.die(true);
    tokio::time::sleep(length).await;
    ground.receivers.die(false);
    Ok(ground.is_over(format!("for {:.1} s", length.as_secs_f64())))
}
