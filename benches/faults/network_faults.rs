//! Faults of the network between the program and Postgres, made by the proxy.

use super::ground::{Fault, Ground};
use crate::Failure;
use std::time::Duration;

/// Ends all connections, several times.
pub async fn cut(ground: &mut Ground) -> Result<Fault, Failure> {
    let times = 1 + ground.chance.below(5);
    for _ in 0..times {
        ground.site.proxy()?.cut();
        let pause = ground.chance.millis(50..400);
        tokio::time::sleep(pause).await;
    }
    ground.site.proxy()?.cut();
    Ok(ground.is_over(format!("{} times", times + 1)))
}

/// Delays each part of a request and of an answer.
pub async fn delay(ground: &mut Ground) -> Result<Fault, Failure> {
    let (by, length) = (ground.chance.millis(20..300), ground.chance.millis(1_500..4_000));
    ground.site.proxy()?.delay(by);
    tokio::time::sleep(length).await;
    ground.site.proxy()?.delay(Duration::ZERO);
    Ok(ground.is_over(format!("by {} ms for {:.1} s", by.as_millis(), length.as_secs_f64())))
}

/// Lets each commit take two seconds longer.
pub async fn slow_commit(ground: &mut Ground) -> Result<Fault, Failure> {
    let length = ground.chance.millis(3_000..5_000);
    ground.site.proxy()?.delay_commits(Duration::from_secs(2));
    tokio::time::sleep(length).await;
    ground.site.proxy()?.delay_commits(Duration::ZERO);
    Ok(ground.is_over(format!("for {:.1} s", length.as_secs_f64())))
}

/// Half-closes all connections. At the end of the fault those that are left end.
pub async fn half_close(ground: &mut Ground) -> Result<Fault, Failure> {
    let length = ground.chance.millis(1_000..4_000);
    ground.site.proxy()?.half_close();
    tokio::time::sleep(length).await;
    ground.site.proxy()?.cut();
    Ok(ground.is_over(format!("for {:.1} s", length.as_secs_f64())))
}

/// Loses the answers to commits, and with each the connection.
pub async fn lose_commit(ground: &mut Ground) -> Result<Fault, Failure> {
    let wanted = 1 + ground.chance.below(8) as usize;
    let length = ground.chance.millis(1_000..2_500);
    ground.site.proxy()?.lose_answers(wanted);
    tokio::time::sleep(length).await;
    let left = ground.site.proxy()?.lose_answers(0);
    Ok(ground.is_over(format!("{} answers", wanted - left)))
}
