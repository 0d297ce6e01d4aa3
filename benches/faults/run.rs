//! Runs a series of injections on one fresh database, then has everything checked.

use super::chance::Chance;
use super::check;
use super::clock::FakeClock;
use super::consumer::Consumer;
use super::ground::{Fault, Ground};
use super::kind::{Database, Kind};
use super::ledger::{Ledger, Shared, lock};
use super::receivers::Receivers;
use super::record::{Injection, Record, Verdict};
use super::site::{Scratch, Site};
use super::traffic::Load;
use crate::Failure;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// The load before the first fault.
const WARM_UP: Duration = Duration::from_secs(1);

/// After a last needed arrival as late as this, database and logs are kept.
const TOO_LONG_S: f64 = 15.0;

/// What is the same for all runs.
pub struct Settings {
    pub program: PathBuf,
    pub directory: PathBuf,
    pub seed: u64,
    /// Messages a second.
    pub rate: u32,
    /// Whether a fault may take half a minute.
    pub may_take_long: bool,
    /// Whether databases and logs are kept.
    pub keep: bool,
}

/// When an injection began and ended.
pub struct Window {
    pub began: Instant,
    pub ended: Instant,
    /// When the program had recovered.
    pub recovered: Instant,
    pub killed: Option<Instant>,
}

/// Injects these faults one after another. Returns the verdict, which is in the record too.
pub async fn run(
    settings: &Settings,
    record: &mut Record,
    database: Database,
    kinds: &[Kind],
) -> Result<Verdict, Failure> {
    let number = record.next_run();
    let mut scratch = Scratch::new(&settings.directory, &number.to_string())?;
    let ledger = Shared::new(Ledger::default().into());
    let receivers = Receivers::start(&ledger).await?;
    let mut site = Site::start(database, &settings.program, &scratch.folder).await?;
    site.subscribe(&receivers.addresses).await?;
    let consumer = Consumer::start(&ledger, site.addresses());
    let load = Load::start(&ledger, &site.addresses(), settings.rate);
    let chance = Chance::new(settings.seed, number);
    let mut ground = Ground {
        site,
        receivers,
        ledger,
        chance,
        clock: None,
        may_take_long: settings.may_take_long,
    };
    tokio::time::sleep(WARM_UP).await;
    let (mut windows, mut longest) = (Vec::new(), 0_f64);
    for (place, kind) in kinds.iter().enumerate() {
        let pause = ground.chance.millis(200..1200);
        tokio::time::sleep(pause).await;
        if kind.needs_clock() {
            ground.set_clock(Some(FakeClock::new(&scratch.folder)?)).await?;
            tokio::time::sleep(WARM_UP).await;
        }
        let (window, mut made) = measure(&mut ground, *kind).await?;
        (made.run, made.injection, made.seed) = (number, place, settings.seed);
        eprintln!(
            "run {number}, {} {}: {} lasted {:.1} s ({} accepted), accepts {:.2} s (all {:.2} s), arrived {:.2} s ({}), missing {}, {:?}",
            made.database,
            made.fault,
            made.detail,
            made.lasted_s,
            made.accepted_meanwhile,
            made.accepts_s,
            made.all_accept_s,
            made.arrived_s,
            made.last,
            made.missing,
            made.refusals
        );
        longest = longest.max(made.arrived_s);
        record.add(made)?;
        windows.push(window);
    }
    if !load.end().await {
        lock(&ground.ledger).complain(
            "never accepted",
            "some messages, however often they were posted".to_owned(),
        );
    }
    let verdict = check::check(&mut ground, &windows, consumer).await?;
    let verdict = Verdict { run: number, ..verdict };
    if settings.keep || longest > TOO_LONG_S || !verdict.is_good() {
        scratch.kept = true;
        eprintln!("kept: {}", scratch.folder.display());
    }
    record.close(verdict.clone())?;
    ground.site.end().await?;
    Ok(verdict)
}

/// Injects one fault and measures the recovery.
async fn measure(ground: &mut Ground, kind: Kind) -> Result<(Window, Injection), Failure> {
    let accepted_before = {
        let mut ledger = lock(&ground.ledger);
        ledger.take_refusals();
        ledger.accepted
    };
    let began = Instant::now();
    let fault = ground.inject(kind).await?;
    let recovery = ground.recover(&fault).await?;
    let Fault {
        detail,
        ended,
        accepted,
        killed,
    } = fault;
    let window = Window {
        began,
        ended,
        recovered: Instant::now(),
        killed,
    };
    let made = Injection {
        run: 0,
        injection: 0,
        seed: 0,
        database: ground.site.database.name().to_owned(),
        fault: kind.name(),
        detail,
        lasted_s: (ended - began).as_secs_f64(),
        accepted_meanwhile: accepted - accepted_before,
        accepts_s: recovery.accepts.as_secs_f64(),
        all_accept_s: recovery.all_accept.as_secs_f64(),
        arrived_s: recovery.arrived.as_secs_f64(),
        last: recovery.last,
        missing: recovery.missing,
        refusals: lock(&ground.ledger).take_refusals(),
        ended: recovery.ended,
    };
    if kind.needs_clock() {
        ground.set_clock(None).await?;
    }
    Ok((window, made))
}
