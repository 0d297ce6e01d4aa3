//! Faults that kill: processes of the program, and Postgres.

use super::ground::{Fault, Ground};
use crate::Failure;

/// Kills one process. The fault is over at once: the start that follows is a part of the recovery.
pub fn kill_one(ground: &mut Ground) -> Result<Fault, Failure> {
    let victim = ground.any_process();
    kill(ground, &[victim])
}

/// Kills all processes at the same moment.
pub fn kill_all(ground: &mut Ground) -> Result<Fault, Failure> {
    let all: Vec<usize> = (0..ground.site.processes.len()).collect();
    kill(ground, &all)
}

fn kill(ground: &mut Ground, victims: &[usize]) -> Result<Fault, Failure> {
    for victim in victims {
        ground.site.processes[*victim].signal("KILL");
    }
    let fault = ground.is_over(format!("processes {victims:?}"));
    for victim in victims {
        let process = &mut ground.site.processes[*victim];
        process.kill();
        process.start(&[])?;
    }
    let killed = Some(fault.ended);
    Ok(Fault { killed, ..fault })
}

/// Kills Postgres and starts it. The fault is over when it takes connections again: its own recovery is not the
/// program's.
pub async fn kill_postgres(ground: &mut Ground) -> Result<Fault, Failure> {
    let pause = ground.chance.millis(0..1500);
    let cluster = ground.site.cluster()?;
    cluster.kill()?;
    tokio::time::sleep(pause).await;
    cluster.revive().await?;
    Ok(ground.is_over(format!("started again after {} ms", pause.as_millis())))
}
