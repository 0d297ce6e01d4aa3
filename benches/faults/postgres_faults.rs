//! Faults of Postgres that lives: no connection is left, nothing may be written; and a full disk, of SQLite too.

use super::cluster::ROLE;
use super::ground::{Fault, Ground};
use crate::Failure;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use std::time::Duration;

/// The role of the other programs.
const OTHERS: &str = "others";
/// So many connections are taken at most: more than Postgres has.
const MOST: usize = 100;

/// Ends the program's connections and lets others take all that there are.
pub async fn no_connections(ground: &mut Ground) -> Result<Fault, Failure> {
    let length = ground.chance.millis(1_000..4_000);
    let cluster = ground.site.cluster()?;
    let mut superuser = cluster.superuser(Duration::from_secs(5)).await?;
    // The limit only keeps the program away until the others have come; it is gone when the fault is there.
    let statements = [
        format!("alter role {ROLE} connection limit 0"),
        format!("select pg_terminate_backend(pid) from pg_stat_activity where usename = '{ROLE}'"),
    ];
    for statement in statements {
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut superuser).await?;
    }
    let url = cluster.url(OTHERS);
    let mut taken = Vec::new();
    while let Ok(connection) = PgConnection::connect(&url).await {
        taken.push(connection);
        if taken.len() == MOST {
            return Err("Postgres has more connections than its settings say".into());
        }
    }
    let statement = format!("alter role {ROLE} connection limit -1");
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut superuser).await?;
    tokio::time::sleep(length).await;
    let count = taken.len();
    for connection in taken {
        connection.close().await?;
    }
    superuser.close().await?;
    Ok(ground.is_over(format!("{count} were taken for {:.1} s", length.as_secs_f64())))
}

/// Makes Postgres refuse writes in new transactions, as a leader that was demoted looks to its clients.
pub async fn read_only(ground: &mut Ground) -> Result<Fault, Failure> {
    let length = ground.chance.millis(1_000..4_000);
    let cluster = ground.site.cluster()?;
    cluster
        .execute("alter system set default_transaction_read_only = on")
        .await?;
    cluster.execute("select pg_reload_conf()").await?;
    tokio::time::sleep(length).await;
    cluster
        .execute("alter system reset default_transaction_read_only")
        .await?;
    cluster.execute("select pg_reload_conf()").await?;
    Ok(ground.is_over(format!("for {:.1} s", length.as_secs_f64())))
}

/// Fills the disk of the database, and frees it again. Postgres is started again if it has ended.
pub async fn full_disk(ground: &mut Ground) -> Result<Fault, Failure> {
    let length = ground.chance.millis(2_000..7_000);
    let disk = ground
        .site
        .disk
        .as_ref()
        .ok_or("this machine cannot mount a small file system")?;
    disk.fill()?;
    tokio::time::sleep(length).await;
    disk.free()?;
    let form = disk.form;
    if let Some(cluster) = &mut ground.site.cluster {
        cluster.revive().await?;
    }
    Ok(ground.is_over(format!("for {:.1} s, {form}", length.as_secs_f64())))
}
