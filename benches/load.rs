//! The load tool: measures how many messages a server accepts and delivers, and prints the figures as Markdown.
//!
//! Generator and receivers run in this program, the server under test runs beside it as a process of its own. The tool
//! uses the REST contract and nothing else, so that figures stay comparable when the server's inside changes.
//! `cargo bench --bench load -- --help` lists its options; BENCHMARKS.md says how the figures are taken.

#[path = "load/generator.rs"]
mod generator;
#[path = "load/machine.rs"]
mod machine;
#[path = "load/options.rs"]
mod options;
#[path = "load/pgbench.rs"]
mod pgbench;
#[path = "load/phases.rs"]
mod phases;
#[path = "load/postgres.rs"]
mod postgres;
#[path = "load/receiver.rs"]
mod receiver;
#[path = "load/report.rs"]
mod report;
#[path = "load/server.rs"]
mod server;
// Shared with the fault harness, which resets connections.
#[allow(dead_code)]
#[path = "load/wire.rs"]
mod wire;

use clap::Parser;
use options::{Options, Part};
use phases::Bench;
use postgres::Postgres;
use receiver::Receiver;
use report::{GIVEN, POSTGRES, Report, SINGLE, SQLITE};
use server::Server;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

const DATABASE: &str = "postrider_bench_app";

fn main() -> ExitCode {
    let options = Options::parse();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder
        .worker_threads(options.threads)
        .enable_all()
        .build()
        .expect("a runtime");
    let code = runtime.block_on(until_interrupted(&options));
    runtime.shutdown_background();
    code
}

/// Runs the measurements until they end, take too long or are interrupted. Dropping the run ends every process that it
/// has started.
async fn until_interrupted(options: &Options) -> ExitCode {
    let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
    let ended = tokio::select! {
        ended = tokio::time::timeout(options.longest(), run(options)) => ended,
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
        _ = terminate.recv() => return ExitCode::from(143),
    };
    match ended {
        Ok(Ok(faults)) if faults.is_empty() => ExitCode::SUCCESS,
        Ok(Ok(faults)) => complain(&faults.join("\n")),
        Ok(Err(error)) => complain(&error.to_string()),
        Err(_) => complain(&format!("not done within {} s", options.longest().as_secs())),
    }
}

fn complain(text: &str) -> ExitCode {
    eprintln!("\nFAILED\n{text}");
    ExitCode::FAILURE
}

/// The data that all rounds share.
struct Run<'a> {
    options: &'a Options,
    scratch: &'a Path,
    receivers: Vec<Receiver>,
    body: String,
    report: Report,
}

/// Runs all rounds, prints the figures, and returns the faults that make the run a failure.
async fn run(options: &Options) -> Result<Vec<String>, Failure> {
    let scratch = Scratch::new(&options.directory)?;
    let payload = options.payload();
    let body = format!(r#"{{"eventType":"invoice.paid","payload":{payload}}}"#);
    let mut receivers = Vec::new();
    for _ in 0..options.fan_out {
        receivers.push(Receiver::start("127.0.0.1", &payload).await?);
    }
    let postgres = find_postgres(options, &scratch.0).await?;
    let mut text = preamble(options, &scratch.0, &body, postgres.as_ref()).await?;
    let mut run = Run {
        options,
        scratch: &scratch.0,
        receivers,
        body,
        report: Report::default(),
    };
    for round in 1..=options.rounds() {
        eprintln!("round {round} of {}", options.rounds());
        run.round(postgres.as_ref()).await?;
    }
    if let Some(postgres) = postgres {
        postgres.drop_database(DATABASE).await?;
        postgres.stop().await;
    }
    text += &run.report.markdown();
    println!("{text}");
    Ok(run.report.faults)
}

impl Run<'_> {
    /// Measures each of the wanted parts once.
    async fn round(&mut self, postgres: Option<&Postgres>) -> Result<(), Failure> {
        if let Some(url) = &self.options.url {
            let server = Server::attach(url, self.options.token.as_deref().unwrap_or_default()).await?;
            return self.measure(GIVEN, &server, None, true).await;
        }
        if let Some(postgres) = postgres {
            if self.options.wants(Part::Pgbench) && pgbench::is_there() {
                pgbench::run(postgres, self.options.seconds(), self.scratch, &mut self.report).await?;
            }
            if self.options.wants(Part::Postgres) {
                let url = postgres.fresh_database(DATABASE).await?;
                self.started(POSTGRES, url.as_str(), &[], Some(postgres), true).await?;
            }
        }
        if self.options.wants(Part::Sqlite) {
            for (group, settings, deliver) in [(SQLITE, "", true), (SINGLE, "POSTRIDER_INTAKE_BATCH=1", false)] {
                let folder = self.scratch.join("sqlite");
                std::fs::create_dir(&folder)?;
                let url = format!("sqlite://{}", folder.join("postrider.sqlite").display());
                self.started(group, &url, &[settings.to_owned()], None, deliver).await?;
                std::fs::remove_dir_all(&folder)?;
            }
        }
        Ok(())
    }

    /// Starts a server, measures it, stops it, and prints what it logged.
    async fn started(
        &mut self,
        group: &'static str,
        database_url: &str,
        settings: &[String],
        postgres: Option<&Postgres>,
        deliver: bool,
    ) -> Result<(), Failure> {
        let settings = [settings, &self.options.set].concat();
        let log = self.scratch.join("server.log");
        let server = Server::start(self.options.program(), database_url, &settings, log).await?;
        self.measure(group, &server, postgres, deliver).await?;
        let logged = server.stop().await?;
        if !logged.is_empty() {
            eprintln!("{group}: {logged}");
        }
        Ok(())
    }

    /// Runs the phases on a server; `deliver` says whether those with receivers are among them.
    async fn measure(
        &mut self,
        group: &'static str,
        server: &Server,
        database: Option<&Postgres>,
        deliver: bool,
    ) -> Result<(), Failure> {
        eprintln!("  {group}");
        let effort = &self.options.effort();
        let (receivers, body, report) = (&self.receivers, &*self.body, &mut self.report);
        let mut bench = Bench {
            group,
            server,
            database,
            receivers,
            body,
            effort,
            report,
        };
        bench.accept().await?;
        if deliver {
            bench.deliver().await?;
            bench.steady().await?;
        }
        bench.memory();
        Ok(())
    }
}

/// Returns the Postgres server of the options, or starts one. `None` means that none is measured: no part wants it, or
/// --quick runs on a machine without Postgres, which is printed.
async fn find_postgres(options: &Options, scratch: &Path) -> Result<Option<Postgres>, Failure> {
    if !options.wants(Part::Postgres) && !options.wants(Part::Pgbench) {
        return Ok(None);
    }
    if let Some(url) = &options.database_url {
        return Postgres::attach(url).await.map(Some);
    }
    if options.quick && machine::directory_with(&["initdb", "postgres"]).is_none() {
        println!("No Postgres on this machine and no --database-url: SQLite alone is measured.\n");
        return Ok(None);
    }
    Postgres::start(scratch, &[]).await.map(Some)
}

/// Returns the lines above the tables: the command, the machine, its disk, Postgres' settings and the tool's own limit.
async fn preamble(
    options: &Options,
    scratch: &Path,
    body: &str,
    postgres: Option<&Postgres>,
) -> Result<String, Failure> {
    let built = Path::new(env!("CARGO_BIN_EXE_app")).parent().and_then(Path::file_name);
    let profile = built.map_or("?".into(), |name| name.to_string_lossy());
    let given: Vec<_> = std::env::args().skip(1).filter(|flag| flag != "--bench").collect();
    let select = if profile == "release" {
        String::new()
    } else {
        format!("--profile {profile} ")
    };
    let empty = phases::ceiling(receiver::start_empty_server().await?, body, &options.effort()).await;
    let mut text = String::new();
    let command = format!("cargo bench {select}--bench load -- {}", given.join(" "));
    writeln!(text, "Command: `{}`", command.trim_end_matches(" -- "))?;
    writeln!(text, "- Machine: {}", machine::description())?;
    let (system, syncs) = (machine::file_system(scratch), machine::syncs_a_second(scratch)?);
    let free = if system == "tmpfs" {
        " (memory: commits cost nothing here, the figures mean little)"
    } else {
        ""
    };
    writeln!(
        text,
        "- Disk: {system}{free}, {syncs:.0} appends of 4 kB with fdatasync a second, one after another"
    )?;
    if let Some(postgres) = postgres {
        writeln!(text, "- Postgres: {}", postgres.settings)?;
    }
    writeln!(
        text,
        "- Rounds: {}, {} s each measurement, {} connections, payload of {} bytes, {} endpoint(s) a message, steady \
         rate {}/s; against a server that does nothing \
         this tool reaches {empty:.0} requests/s\n",
        options.rounds(),
        options.seconds(),
        options.connections,
        options.payload,
        options.fan_out,
        options.rate
    )?;
    Ok(text)
}

/// Returns a port that nothing listens on at this moment.
fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A folder that is removed when the run ends, however it ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> std::io::Result<Self> {
        let folder = parent.join(format!("postrider-load-{}", std::process::id()));
        std::fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
