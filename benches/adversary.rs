//! The adversary: measures what one hostile customer, or a foreign transaction, costs all other customers.
//!
//! Each scenario starts the program on a fresh database, puts it under pressure and reports figures. The tool does not
//! judge them: to compare two programs, run it once with each (`--program`). All traffic stays on the loopback
//! interface, every wait has an end, and scratch folders are removed. `cargo bench --bench adversary -- --list` lists
//! the scenarios.

mod adversary {
    pub mod beats;
    pub mod console;
    pub mod deleted_endpoints;
    pub mod growth;
    pub mod history;
    pub mod locked_row;
    pub mod parked;
    pub mod readers;
    pub mod report;
    pub mod retention;
    pub mod rows;
    pub mod scenario;
    pub mod site;
    pub mod slow_settle;
    pub mod snapshot;
    pub mod traffic;
}
// Shared with the load tool, which uses functions that this one does not.
#[allow(dead_code)]
#[path = "load/generator.rs"]
mod generator;
#[allow(dead_code)]
#[path = "load/machine.rs"]
mod machine;
#[allow(dead_code)]
#[path = "load/postgres.rs"]
mod postgres;
#[allow(dead_code)]
#[path = "load/receiver.rs"]
mod receiver;
#[allow(dead_code)]
#[path = "load/server.rs"]
mod server;
#[allow(dead_code)]
#[path = "load/wire.rs"]
mod wire;

use adversary::report::Report;
use adversary::scenario::Scenario;
use adversary::site::Ground;
use clap::{Parser, ValueEnum};
use postgres::Postgres;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use tokio::signal::unix::{SignalKind, signal};

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// The limit of open files that this tool asks for: a receiver holds a connection for each delivery in flight.
const OPEN_FILES: u64 = 16_384;

/// Measures what one hostile customer, or one foreign transaction, costs all others.
#[derive(Parser)]
struct Options {
    /// List the scenarios, and measure nothing
    #[arg(long)]
    list: bool,
    /// Only these scenarios; may be repeated
    #[arg(long, value_enum, value_name = "NAME")]
    only: Vec<Scenario>,
    /// Small sizes, a few seconds for each: shows that the tool works, the figures mean little
    #[arg(long)]
    quick: bool,
    /// The number of attempts in the history that a scenario fills in; default: 10,000,000 for `history` and `growth`,
    /// 600,000 for `retention`
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1_000..))]
    attempts: Option<u64>,
    /// Another binary to measure, such as an older one
    #[arg(long, default_value = env!("CARGO_BIN_EXE_app"), hide_default_value = true)]
    program: PathBuf,
    /// The folder for databases; it must be on a real disk, or commits cost nothing
    #[arg(long, default_value = "/var/tmp")]
    directory: PathBuf,
    /// Added by `cargo bench` itself
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    if options.list {
        for scenario in Scenario::value_variants() {
            println!("{}: {}", scenario.name(), scenario.about());
        }
        return ExitCode::SUCCESS;
    }
    if let Err(error) = rlimit::increase_nofile_limit(OPEN_FILES) {
        eprintln!("the limit of open files stays as it is: {error}");
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime");
    let code = runtime.block_on(until_interrupted(&options));
    runtime.shutdown_background();
    code
}

/// Runs the scenarios until they end or are interrupted. Dropping the run ends every process that it has started.
async fn until_interrupted(options: &Options) -> ExitCode {
    let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
    let ended = tokio::select! {
        ended = run(options) => ended,
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
        _ = terminate.recv() => return ExitCode::from(143),
    };
    match ended {
        Ok(report) => {
            println!("\n{}", report.markdown());
            match report.failures.is_empty() {
                true => ExitCode::SUCCESS,
                false => complain(&report.failures.join("\n")),
            }
        }
        Err(error) => complain(&error.to_string()),
    }
}

fn complain(text: &str) -> ExitCode {
    eprintln!("\nFAILED\n{text}");
    ExitCode::FAILURE
}

/// Runs the scenarios one after another. A scenario that fails, or takes too long, does not stop the others.
async fn run(options: &Options) -> Result<Report, Failure> {
    let scratch = Scratch::new(&options.directory)?;
    let program = options
        .program
        .canonicalize()
        .map_err(|error| format!("--program {}: {error}", options.program.display()))?;
    let ground = Ground {
        postgres: Postgres::start(&scratch.0, &["shared_preload_libraries=pg_stat_statements"]).await?,
        program,
        scratch: scratch.0.clone(),
        quick: options.quick,
        attempts: options.attempts,
    };
    println!("- Program: {}", ground.program.display());
    println!("- Machine: {}", machine::description());
    println!("- Disk: {}", machine::file_system(&scratch.0));
    println!("- Postgres: {}\n", ground.postgres.settings);
    let mut report = Report::new(&ground);
    for &scenario in Scenario::value_variants() {
        if !options.only.is_empty() && !options.only.contains(&scenario) {
            continue;
        }
        eprintln!("{}", scenario.name());
        let (began, longest) = (Instant::now(), scenario.longest(options.quick));
        let ended = tokio::time::timeout(longest, scenario.run(&ground, &mut report)).await;
        let failure = match ended {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some(format!("not done within {} s", longest.as_secs())),
        };
        if let Some(failure) = failure {
            report.failures.push(format!("{}: {failure}", scenario.name()));
        }
        eprintln!("{} took {:.0} s", scenario.name(), began.elapsed().as_secs_f64());
    }
    ground.postgres.stop().await;
    Ok(report)
}

/// Returns a port that nothing listens on at this moment.
fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// A folder that is removed when the run ends, however it ends.
struct Scratch(PathBuf);

impl Scratch {
    fn new(parent: &Path) -> std::io::Result<Self> {
        let folder = parent.join(format!("postrider-adversary-{}", std::process::id()));
        std::fs::create_dir(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
