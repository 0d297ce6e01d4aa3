//! Writes RELIABILITY.md: what was injected, what came of it, what is promised and what is not.
//!
//! Its figures come from the record and from the file of the security corpora, never from this file.

use super::kind::Kind;
use super::record::Record;
use super::report;
use crate::machine;
use clap::ValueEnum;
use serde_json::Value;
use std::fmt::Write;
use std::path::Path;

/// Where the tests of the security corpora write their counts if `POSTRIDER_CORPORA` names this file: a line for each
/// corpus and database, such as `{"secrets": {"database": "Sqlite", "cases": 84, "found": 0}}`.
pub const CORPORA: &str = "target/security-corpora.jsonl";

const BEGIN: &str = "\
# Reliability

Postrider promises that an accepted message is not lost. This page shows what was done to break that promise, and what
came of it. A harness starts the real program with a real database and real receivers, posts messages all the time, and
injects one fault after another at random instants. Then it compares: every message that was answered with 202 must have
arrived at every endpoint whose filter takes it, and what the API says of it must be true. The harness wrote this page
from the record of its runs, and [anyone can run it](#run-it-yourself).

## Faults

";

const COLUMNS: &str = "
- **Accepted**: messages that were answered with 202, from the beginning of a fault to the beginning of the next one.
- **Lost**: those of them that did not arrive at every endpoint that wanted them.
- **Late**: those of them that had not arrived when the run ended, and still waited in the queue.
- **Twice**: deliveries that a receiver got again after it had answered them with 204.
- **Accepts again**: from the end of the fault until every process had accepted a message. Two processes run on Postgres,
  one on SQLite. A process that is killed is started again at once, and its start counts.
- **Last needed arrival**: from the end of the fault until all that was accepted before it or during it had arrived.

A fault ends when its cause does: when the process was killed, when Postgres takes connections again, when the disk has
room again. Retries are set to every second, so that no arrival waits for a schedule.

";

const CHECKS: &str = "\
## What is checked

After each run, when its load has ended:

- every message that was answered with 202 has arrived at every endpoint that wanted it, under the id of that answer,
  and nowhere else. A POST without an answer is repeated with its idempotency key, and must be stored once;
- every arrival has its attempt in the history, unless a process was killed within five seconds after it; no attempt is a
  success that the receiver does not know of;
- the API says of every delivery that it is delivered, and no row is left in the queue, and no lease;
- the statistics have every attempt of the history, except those of the last seconds before a kill, and never more;
- a consumer that polls has got every message of its poller, each exactly once.

";

const PROMISES: &str = "\
## What is promised

- **An accepted message is not lost.** The response 202 is sent after the commit. The message is sent to every endpoint
  that wanted it, and again until it is delivered or its schedule is used up, whichever process dies meanwhile.
- **At least once, so sometimes twice.** What a process had sent and not yet recorded when it was killed is sent again.
  Receivers recognize it by the message's id.
- **A repeated POST with the same idempotency key stores one message.**
- **Polling skips nothing and repeats nothing**, as long as a reader goes on from the iterator of its last page.

## What is not promised

- **SQLite with `POSTRIDER_SQLITE_SYNC=normal`.** A power failure may lose the last commits. With `full`, the default, it
  loses nothing, and neither does a crash of the program with either of them.
- **An asynchronous standby of Postgres.** A failover to it loses the last moments before it: messages that were answered
  with 202 and not delivered yet, changes of endpoints and tokens, and the record of attempts. With a synchronous standby
  it loses nothing that was confirmed. [docs/operating.md](docs/operating.md#replicas-of-postgres) says what to do then.
- **A disk that says that it has written what it has not.** Both databases wait for the disk at each commit. If a disk, its
  controller or the host of a virtual machine loses what it has confirmed, the messages in it are lost. The harness kills
  processes and not machines, so it proves nothing about a loss of power.
- **A clock that steps back, on SQLite.** Postgres gives the time to all its processes; on SQLite it is that of the machine.
  A retry that was scheduled while the clock was an hour ahead waits for that hour.
- **The history of the last moments before a kill.** The attempt of a request that was under way may be missing, and
  what a process had counted for the statistics in its last ten seconds.
- **An order.** Messages arrive as they are sent, and retries later.

";

/// Returns the whole page.
pub fn page(record: &Record, profile: &str, quick: bool) -> String {
    let mut text = String::from(BEGIN);
    text += &report::markdown(record);
    text += COLUMNS;
    text += "| Fault | What is done |\n|---|---|\n";
    for kind in Kind::value_variants() {
        _ = writeln!(text, "| {} | {} |", kind.name(), kind.about());
    }
    text.push('\n');
    let failures = report::disagreements(record);
    if failures.is_empty() {
        text += "No check has failed in these runs.\n\n";
    } else {
        text += "These checks have failed:\n\n";
        for failure in failures {
            _ = writeln!(text, "- {failure}");
        }
        text.push('\n');
    }
    text += CHECKS;
    text += PROMISES;
    text += &security(Path::new(CORPORA));
    text += &command(record, profile, quick);
    text
}

const SECURITY: &str = "\
## Security

- **ssrf**: addresses that webhooks must not reach, in every spelling, when an endpoint is made and when a stored one is
  sent to; names that mix or change their addresses. In a network of its own, where each of these addresses answers and a
  public one too, only the public one is reached; if all are allowed, all that answer are reached.
- **smuggling**: requests that two parsers could read in different ways, each of which hides a second request that would
  create a message. None of these runs, neither with the program alone nor behind NGINX, and the program has counted
  exactly the requests that have its answer.
- **hostile receivers**: receivers that attack, beside a healthy one.
- **secrets**: each secret, searched for in logs at the level `trace`, database files, metrics, responses and the audit
  log. The same search finds a text that was planted there.

";

/// Returns the section on the security corpora, with the counts that their tests have written.
fn security(file: &Path) -> String {
    let lines = std::fs::read_to_string(file).unwrap_or_default();
    let parsed = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut rows: Vec<String> = parsed.filter_map(|line| corpus(&line)).collect();
    rows.sort();
    match rows.is_empty() {
        true => format!("{SECURITY}The corpora were not run before this page was written.\n\n"),
        false => format!(
            "{SECURITY}| Corpus | Database | Counts |\n|---|---|---|\n{}\n",
            rows.concat()
        ),
    }
}

/// Returns the row of a corpus on one database.
fn corpus(line: &Value) -> Option<String> {
    let (name, counts) = line.as_object()?.iter().next()?;
    let database = counts["database"].as_str()?;
    let counts = counts.as_object()?.iter().filter(|(what, _)| *what != "database");
    let counts: Vec<String> = counts.map(|(what, count)| format!("{what} {count}")).collect();
    Some(format!("| {name} | {database} | {} |\n", counts.join(", ")))
}

fn command(record: &Record, profile: &str, quick: bool) -> String {
    let mut seeds: Vec<u64> = record.injections.iter().map(|made| made.seed).collect();
    seeds.sort_unstable();
    seeds.dedup();
    let seeds: Vec<String> = seeds.iter().map(u64::to_string).collect();
    let form = if quick { "the short form" } else { "the long form" };
    format!(
        "## Run it yourself\n\n\
         The harness needs Linux, the programs of a Postgres server, root for the small disks, and libfaketime for the \
         clocks\n(`apt install postgresql faketime`). A kind that a machine cannot do is left out, and the table says \
         so.\n\n\
         ```sh\n\
         # every kind once on each database, in under four minutes; exits with 1 if anything is lost or disagrees\n\
         cargo bench --profile dev --bench faults -- --quick\n\
         # until the record has 30 injections of each kind on each database; can be stopped and started again\n\
         cargo bench --profile dev --bench faults -- --injections 30 --record benches/faults/record.jsonl\n\
         # the counts of the security corpora; root, for the network of its own\n\
         POSTRIDER_CORPORA={CORPORA} cargo test --test it -- --include-ignored ssrf hostile smuggling secrets_kept\n\
         # and of the one that goes through NGINX; needs Docker\n\
         POSTRIDER_CORPORA={CORPORA} .ci/run image stack\n\
         # this page, from the record\n\
         cargo bench --profile dev --bench faults -- --report --record benches/faults/record.jsonl --page RELIABILITY.md\n\
         ```\n\n\
         These figures are from {form}: Postrider {}, a build with the profile `{profile}`, seed {}, on {}.\n",
        env!("CARGO_PKG_VERSION"),
        seeds.join(", "),
        machine::description(),
    )
}
