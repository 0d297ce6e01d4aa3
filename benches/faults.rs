//! The fault harness: injects faults into the real program under load, and counts what is lost.
//!
//! A run starts the program on a fresh database and injects one fault after another at random instants. After each it
//! measures the recovery; at the end it compares what was accepted with what arrived and with what the API and the
//! tables say. Each injection is a line of a record, and a harness that is started again goes on with it. All traffic
//! stays on the loopback interface, every wait has an end, and scratch folders are removed.
//! `cargo bench --bench faults -- --list` lists the kinds of faults.

mod faults {
    pub mod abilities;
    pub mod api;
    pub mod chance;
    pub mod check;
    pub mod clock;
    pub mod cluster;
    pub mod consumer;
    pub mod disk;
    pub mod ground;
    pub mod history;
    pub mod kill_faults;
    pub mod kind;
    pub mod ledger;
    pub mod network_faults;
    pub mod plan;
    pub mod postgres_faults;
    pub mod process;
    pub mod proxy;
    pub mod receivers;
    pub mod record;
    pub mod reliability;
    pub mod report;
    pub mod run;
    pub mod site;
    pub mod stop_faults;
    pub mod traffic;
}
// Shared with the load tool, which uses functions that this one does not.
#[allow(dead_code)]
#[path = "load/machine.rs"]
mod machine;
#[allow(dead_code)]
#[path = "load/postgres.rs"]
mod postgres;
#[allow(dead_code)]
#[path = "load/wire.rs"]
mod wire;

use clap::{Parser, ValueEnum};
use faults::abilities::Abilities;
use faults::kind::{Database, Kind};
use faults::plan::Plan;
use faults::record::Record;
use faults::run::{self, Settings};
use faults::{reliability, report};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;
use tokio::signal::unix::{SignalKind, signal};

pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Injects faults into the program under load, and counts what is lost.
#[derive(Parser)]
struct Options {
    /// List the kinds of faults, and inject none
    #[arg(long)]
    list: bool,
    /// Only these kinds; may be repeated
    #[arg(long, value_enum, value_name = "KIND")]
    only: Vec<Kind>,
    /// Only this database
    #[arg(long, value_enum, value_name = "NAME")]
    database: Option<Database>,
    /// How many injections of each kind the record shall have on each database
    #[arg(long, value_name = "N", default_value_t = 30)]
    injections: usize,
    /// End after so many runs, though the record lacks injections
    #[arg(long, value_name = "N")]
    runs: Option<usize>,
    /// Messages a second
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=5_000))]
    rate: u32,
    /// Decides kinds, instants and details
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The file that keeps the injections; with an earlier one the harness goes on where it ended
    #[arg(long, value_name = "FILE", default_value = "target/faults.jsonl")]
    record: PathBuf,
    /// One injection of each kind on each database, and no earlier record
    #[arg(long)]
    quick: bool,
    /// Keep the folders with databases and logs, not only those of runs that failed or recovered late
    #[arg(long)]
    keep: bool,
    /// Print the record's table, and inject nothing
    #[arg(long)]
    report: bool,
    /// Write RELIABILITY.md from the record to this file
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Another binary, such as an older one
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
        for kind in Kind::value_variants() {
            println!("{}: {}", kind.name(), kind.about());
        }
        return ExitCode::SUCCESS;
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_all().build().expect("a runtime");
    let code = runtime.block_on(until_interrupted(&options));
    runtime.shutdown_background();
    code
}

/// Injects until the record is complete, or until interrupted. Dropping a run ends every process that it has started.
async fn until_interrupted(options: &Options) -> ExitCode {
    let mut terminate = signal(SignalKind::terminate()).expect("a signal handler");
    let ended = tokio::select! {
        ended = run(options) => ended,
        _ = tokio::signal::ctrl_c() => return ExitCode::from(130),
        _ = terminate.recv() => return ExitCode::from(143),
    };
    match ended {
        Ok(record) => {
            println!("{}", report::markdown(&record));
            if let Err(error) = write_page(options, &record) {
                return complain(&error.to_string());
            }
            let failures = report::disagreements(&record);
            match failures.is_empty() {
                true => ExitCode::SUCCESS,
                false => complain(&failures.join("\n")),
            }
        }
        Err(error) => complain(&error.to_string()),
    }
}

/// Writes RELIABILITY.md, if the options say where.
fn write_page(options: &Options, record: &Record) -> std::io::Result<()> {
    let Some(file) = &options.page else { return Ok(()) };
    let built = options.program.parent().and_then(Path::file_name);
    let profile = built.map_or("?".into(), |name| name.to_string_lossy());
    std::fs::write(file, reliability::page(record, &profile, options.quick))
}

fn complain(text: &str) -> ExitCode {
    eprintln!("\nFAILED\n{text}");
    ExitCode::FAILURE
}

/// Makes runs until the record has what the options ask for.
async fn run(options: &Options) -> Result<Record, Failure> {
    if options.quick && !options.report && options.record.exists() {
        std::fs::remove_file(&options.record)?;
    }
    let mut record = Record::open(&options.record)?;
    if options.report {
        return Ok(record);
    }
    let program = options
        .program
        .canonicalize()
        .map_err(|error| format!("--program {}: {error}", options.program.display()))?;
    let settings = Settings {
        program,
        directory: options.directory.clone(),
        seed: options.seed,
        rate: options.rate,
        may_take_long: !options.quick,
        keep: options.keep,
    };
    let plan = Plan {
        injections: if options.quick { 1 } else { options.injections },
        kinds: if options.only.is_empty() {
            Kind::value_variants().to_vec()
        } else {
            options.only.clone()
        },
        are_named: !options.only.is_empty(),
        databases: options
            .database
            .map_or(Database::value_variants().to_vec(), |only| vec![only]),
        seed: options.seed,
    };
    println!("- Program: {}", settings.program.display());
    println!("- Machine: {}", machine::description());
    println!("- Disk: {}\n", machine::file_system(&settings.directory));
    let abilities = Abilities::of_machine(&settings.directory)?;
    abilities.note(&mut record)?;
    let mut left = options.runs.unwrap_or(usize::MAX);
    while let Some((database, kinds)) = plan.next(&record, &abilities).filter(|_| left > 0) {
        left -= 1;
        let began = Instant::now();
        let verdict = run::run(&settings, &mut record, database, &kinds).await?;
        eprintln!(
            "run {} on {}: {} messages, {} arrivals, {} attempts, {} lost, {} twice, {:.0} s",
            verdict.run,
            verdict.database,
            verdict.accepted.iter().sum::<usize>(),
            verdict.arrivals,
            verdict.attempts,
            verdict.lost.iter().sum::<usize>(),
            verdict.twice.iter().sum::<usize>(),
            began.elapsed().as_secs_f64()
        );
        for complaint in &verdict.disagreements {
            eprintln!("  {complaint}");
        }
    }
    Ok(record)
}

/// Returns a port that nothing listens on at this moment.
fn free_port() -> std::io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
