//! Real databases that go back: a failover that loses writes, a dump that is restored elsewhere, a copy of a file. Whoever
//! polls with an iterator from before misses nothing that comes later.

use std::process::{Command, Stdio};

use sea_orm::ConnectionTrait;
use serde_json::json;

use crate::crash::TOKEN;
use crate::harness::{Caller, DEADLINE, Program, Proxy, Replicated, connect, find_binaries, rows, within};

/// A client of one server that polls the poller `p` of the application `a`.
struct Client {
    caller: Caller,
    server: String,
}

impl Client {
    fn of(server: String) -> Self {
        Self {
            caller: Caller::new(TOKEN),
            server,
        }
    }

    async fn make_poller(&self) {
        for (path, body) in [
            ("/app", json!({"name": "a", "uid": "a"})),
            ("/app/a/poller", json!({"uid": "p"})),
        ] {
            self.caller.make(&self.server, path, body).await;
        }
    }

    /// Sends messages with the event ids `{name}-{number}` until each is accepted, and returns their ids.
    async fn send(&self, name: &str, count: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for number in 0..count {
            let event_id = format!("{name}-{number}");
            let message = json!({"eventType": "t", "eventId": event_id, "payload": {"n": number}});
            let made = within(DEADLINE, "a message is accepted", async || {
                let made = self.caller.post(&self.server, "/app/a/msg", &event_id, &message).await;
                made.ok().filter(|(status, _)| *status == 202)
            })
            .await;
            ids.push(made.1["id"].as_str().expect("an id").to_owned());
        }
        ids
    }

    /// Polls `path` from an iterator on until the message `last` was read. Returns all ids that were read, the iterator
    /// behind them, and whether a page said that it began again.
    async fn read_to(&self, path: &str, iterator: Option<&str>, last: &str) -> (Vec<String>, String, bool) {
        let (mut ids, mut next, mut restarted) = (Vec::new(), iterator.map(str::to_owned), false);
        within(DEADLINE, "the last message is read", async || {
            let query = next
                .as_deref()
                .map(|text| format!("&iterator={text}"))
                .unwrap_or_default();
            let page = self
                .caller
                .try_get(&self.server, &format!("{path}?limit=3{query}"))
                .await?;
            let found = page["data"].as_array().expect("a list");
            ids.extend(found.iter().map(|row| row["id"].as_str().expect("an id").to_owned()));
            restarted |= page["restarted"] == true;
            next = Some(page["iterator"].as_str().expect("an iterator").to_owned());
            ids.iter().any(|id| id == last).then_some(())
        })
        .await;
        (ids, next.expect("a page was read"), restarted)
    }
}

/// Returns the number of the transaction in an iterator, without that of its epoch.
fn number(iterator: &str) -> i64 {
    let tx = iterator.split('.').nth(2).and_then(|text| text.parse::<i64>().ok());
    tx.expect("a place") & ((1 << 48) - 1)
}

/// Asserts that `read` has these messages in their order; others may stand between them.
fn assert_holds(read: &[String], sent: &[String]) {
    let found: Vec<_> = read.iter().filter(|id| sent.contains(id)).collect();
    assert_eq!(found, sent.iter().collect::<Vec<_>>(), "each once, in order");
}

const POLLER: &str = "/app/a/poller/p";
const CONSUMER: &str = "/app/a/poller/p/consumer/c";

postgres_only!(
    after_a_failover_that_lost_messages_every_iterator_reads_all_that_come_later,
    async |_db| {
        let Some(mut servers) = Replicated::start() else { return };
        let proxy = Proxy::to(&servers.primary_url()).await;
        let program = Program::on(&proxy.url(&servers.primary_url())).env("POSTRIDER_ADMIN_TOKEN", TOKEN);
        program.run(&["migrate", "up"]).await.ok();
        let serving = program.serve().await;
        let client = Client::of(serving.url());
        client.make_poller().await;
        let kept = client.send("kept", 5).await;
        let (_, of_kept, _) = client.read_to(POLLER, None, &kept[4]).await;
        let standby = connect(&servers.standby_url()).await.expect("the standby answers");
        within(DEADLINE, "the standby has these messages", async || {
            (rows(&standby, "select 1 from poll_item").await.len() == kept.len()).then_some(())
        })
        .await;
        standby.close().await.expect("the connection closes");

        servers.stop_standby();
        // More transactions than the standby counts in this test, so that its numbers stay below those of the lost ones.
        let lost = client.send("lost", 40).await;
        let (_, of_lost, _) = client.read_to(POLLER, Some(&of_kept), &lost[39]).await;
        let (_, of_consumer, _) = client.read_to(CONSUMER, None, &lost[39]).await;
        servers.fail_over();
        proxy.lead_to(&servers.standby_url()).await;

        let new = client.send("new", 6).await;
        let (read, of_new, restarted) = client.read_to(POLLER, Some(&of_kept), &new[5]).await;
        assert!(
            number(&of_new) < number(&of_lost),
            "numbers alone would skip the new messages"
        );
        assert_eq!(
            (read, restarted),
            (new.clone(), false),
            "what is behind a kept message is read once"
        );
        let mut sent = new;
        for (path, iterator, name) in [(POLLER, &of_lost, "later"), (CONSUMER, &of_consumer, "last")] {
            let (read, next, restarted) = client.read_to(path, Some(iterator), sent.last().expect("one")).await;
            assert!(restarted, "{path} says that it began again");
            assert_holds(&read, &sent);
            let later = client.send(name, 2).await;
            let (read, _, restarted) = client.read_to(path, Some(&next), &later[1]).await;
            assert_eq!((&read, restarted), (&later, false), "it goes on from there");
            sent.extend(later);
        }
        drop(serving);
    }
);

/// Copies a database of Postgres to another server, as an operator does it.
fn dump_and_restore(from: &str, to: &str) {
    let binaries = find_binaries().expect("the machine has a server, so it has its tools");
    let dump = Command::new(binaries.join("pg_dump"))
        .args(["--no-owner", from])
        .stdout(Stdio::piped())
        .spawn()
        .and_then(|mut dump| {
            let restore = Command::new(binaries.join("psql"))
                .args([
                    "--quiet",
                    "--no-psqlrc",
                    "--set=ON_ERROR_STOP=1",
                    "--single-transaction",
                    to,
                ])
                .stdin(dump.stdout.take().expect("a pipe"))
                .stdout(Stdio::null())
                .status()?;
            Ok((dump.wait()?, restore))
        });
    let (dumped, restored) = dump.expect("both tools run");
    assert!(dumped.success() && restored.success());
}

postgres_only!(
    after_a_dump_is_restored_on_a_younger_server_every_iterator_reads_all_that_come_later,
    async |_db| {
        let Some(original) = Replicated::start() else { return };
        let Some(younger) = Replicated::start() else { return };
        let on = |url: &str| Program::on(url).env("POSTRIDER_ADMIN_TOKEN", TOKEN);
        let program = on(&original.primary_url());
        program.run(&["migrate", "up"]).await.ok();
        // The younger server will count its transactions from a far smaller number.
        let connection = connect(&original.primary_url()).await.expect("the server answers");
        let burn = "do $$ begin for n in 1..5000 loop perform pg_current_xact_id(); commit; end loop; end $$";
        connection.execute_unprepared(burn).await.expect(burn);
        connection.close().await.expect("it closes");
        let mut serving = program.serve().await;
        let client = Client::of(serving.url());
        client.make_poller().await;
        let old = client.send("old", 5).await;
        let (_, of_second, _) = client.read_to(POLLER, None, &old[1]).await;
        let (_, of_last, _) = client.read_to(POLLER, None, &old[4]).await;
        let (_, of_consumer, _) = client.read_to(CONSUMER, None, &old[4]).await;
        assert_eq!(serving.stop().await, Some(0));
        dump_and_restore(&original.primary_url(), &younger.primary_url());

        let serving = on(&younger.primary_url()).serve().await;
        let client = Client::of(serving.url());
        let new = client.send("new", 6).await;
        let behind_second = [&old[3..], &new[..]].concat();
        for (path, iterator, expected) in [
            (POLLER, &of_last, &new),
            (CONSUMER, &of_consumer, &new),
            (POLLER, &of_second, &behind_second),
        ] {
            let (read, of_new, restarted) = client.read_to(path, Some(iterator), &new[5]).await;
            assert_eq!((&read, restarted), (expected, false), "{path} from {iterator}");
            assert!(
                number(&of_new) < number(iterator),
                "numbers alone would skip the new messages"
            );
        }
        drop(serving);
    }
);

#[tokio::test]
async fn after_a_copy_of_an_sqlite_file_is_put_back_every_iterator_reads_all_that_come_later() {
    let program = Program::bare()
        .env("POSTRIDER_LISTEN", "127.0.0.1:0")
        .env("POSTRIDER_ADMIN_TOKEN", TOKEN);
    let mut serving = program.serve().await;
    let client = Client::of(serving.url());
    client.make_poller().await;
    let kept = client.send("kept", 5).await;
    let (_, of_kept, _) = client.read_to(POLLER, None, &kept[4]).await;
    program.run(&["backup", "saved.sqlite"]).await.ok();
    let lost = client.send("lost", 20).await;
    let (_, of_lost, _) = client.read_to(POLLER, Some(&of_kept), &lost[19]).await;
    let (_, of_consumer, _) = client.read_to(CONSUMER, None, &lost[19]).await;
    assert_eq!(serving.stop().await, Some(0));
    let data = program.folder().join("data");
    for name in ["postrider.sqlite-wal", "postrider.sqlite-shm"] {
        let _ = std::fs::remove_file(data.join(name));
    }
    let saved = program.folder().join("saved.sqlite");
    std::fs::copy(saved, data.join("postrider.sqlite")).expect("the file is copied");

    let serving = program.serve().await;
    let client = Client::of(serving.url());
    // First fewer than were lost, so that their numbers are below those of the lost ones, then more, which have the same.
    let mut new = client.send("new", 6).await;
    new.extend(client.send("more", 20).await);
    let (read, _, restarted) = client.read_to(POLLER, Some(&of_kept), &new[25]).await;
    assert_eq!((read, restarted), (new.clone(), false));
    for (path, iterator) in [(POLLER, &of_lost), (CONSUMER, &of_consumer)] {
        let (read, _, restarted) = client.read_to(path, Some(iterator), &new[25]).await;
        assert!(restarted, "{path} says that it began again");
        assert_holds(&read, &new);
    }
}
