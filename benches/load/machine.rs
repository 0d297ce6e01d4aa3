//! Reads from Linux what processes and the machine do: processor time, memory, file system, and how fast it syncs.
//!
//! If there is no /proc, every reading is `None` and its row is left out of the report. Must not know what the
//! processes are for.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// Clock ticks per second in /proc/PID/stat: 100 on every Linux platform that Rust supports.
const TICKS: f64 = 100.0;

/// A child process that is killed when this value is dropped, also after a panic or an interrupt.
pub struct Running(pub Child);

impl Running {
    /// Starts the program. An error names it: "No such file" alone would not help.
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let started = command.spawn();
        started
            .map(Self)
            .map_err(|error| io::Error::new(error.kind(), format!("{:?}: {error}", command.get_program())))
    }

    /// Sends the signal `name`, such as `TERM`, to the process.
    pub fn signal(&self, name: &str) {
        let _ = Command::new("sh")
            .args(["-c", &format!("kill -{name} {}", self.0.id())])
            .status();
    }

    /// Waits until the process has ended, at most for `limit`, and returns whether it has.
    pub async fn ended_within(&mut self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        loop {
            if matches!(self.0.try_wait(), Ok(Some(_))) {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Returns the processor time in seconds, user and system, of a process and of the children that it has waited for.
pub fn processor_time(pid: u32) -> Option<f64> {
    let stat = Stat::read(pid)?;
    Some((stat.own + stat.reaped) / TICKS)
}

/// Returns the processor time in seconds of a process, its living children and those that it has waited for.
pub fn processor_time_with_children(pid: u32) -> Option<f64> {
    let mut ticks = Stat::read(pid).map(|stat| stat.own + stat.reaped)?;
    for entry in fs::read_dir("/proc").ok()?.flatten() {
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let child = number.and_then(Stat::read).filter(|stat| stat.parent == pid);
        ticks += child.map_or(0.0, |stat| stat.own);
    }
    Some(ticks / TICKS)
}

pub fn parent_of(pid: u32) -> Option<u32> {
    Stat::read(pid).map(|stat| stat.parent)
}

/// The fields of /proc/PID/stat that are used.
struct Stat {
    /// The id of the parent process.
    parent: u32,
    /// Ticks of the process itself.
    own: f64,
    /// Ticks of the children that it has waited for.
    reaped: f64,
}

impl Stat {
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The program's name, in parentheses, may contain spaces and parentheses.
        let fields: Vec<&str> = text[text.rfind(')')? + 2..].split(' ').collect();
        let ticks = |at: usize| fields.get(at)?.parse::<f64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: ticks(11)? + ticks(12)?,
            reaped: ticks(13)? + ticks(14)?,
        })
    }
}

/// Returns the resident memory of a process in MB: the present one for `VmRSS:`, the highest so far for `VmHWM:`.
pub fn memory_mb(pid: u32, name: &str) -> Option<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / 1024.0)
}

/// Returns the clock ticks since boot in which the cores were idle, and all ticks, each as a sum over the cores.
pub fn idle_and_all() -> Option<(f64, f64)> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let ticks: Vec<f64> = text
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .flat_map(str::parse)
        .collect();
    Some((ticks.get(3)? + ticks.get(4)?, ticks.iter().take(8).sum()))
}

/// Describes cores, processor, memory, kernel and load in one line.
pub fn description() -> String {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let after_colon = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or("?", |(_, value)| value.trim()).to_owned()
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let memory = after_colon(&read("/proc/meminfo"), "MemTotal")
        .trim_end_matches(" kB")
        .parse()
        .unwrap_or(0.0);
    format!(
        "{cores} cores ({}), {:.0} GB memory, {} {}, load average at the start {}",
        after_colon(&read("/proc/cpuinfo"), "model name"),
        memory / 1024.0 / 1024.0,
        std::env::consts::OS,
        read("/proc/sys/kernel/osrelease").trim(),
        read("/proc/loadavg").split(' ').next().unwrap_or("?"),
    )
}

/// Returns the type of the file system that a directory is on, such as `ext4`.
pub fn file_system(directory: &Path) -> String {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let rows = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let holding = rows.filter(|row| row.len() > 2 && directory.starts_with(row[1]));
    holding
        .max_by_key(|row| row[1].len())
        .map_or_else(|| "unknown".to_owned(), |row| row[2].to_owned())
}

/// Measures how many appends of 4 kB with fdatasync `directory` takes per second, one after another: no commit can be
/// faster than one of these.
pub fn syncs_a_second(directory: &Path) -> io::Result<f64> {
    let path = directory.join("sync-probe");
    let mut file = File::create(&path)?;
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < Duration::from_millis(500) {
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        count += 1;
    }
    let rate = f64::from(count) / start.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok(rate)
}

/// Finds the directory that has all of these programs, on PATH or where distributions put Postgres, the newest version
/// first. Links are followed, so that a link to a wrapper script is passed over: the programs are not in its directory.
pub fn directory_with(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<_> = std::env::split_paths(&path).collect();
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut packaged: Vec<_> = versions.map(|entry| entry.path()).collect();
    packaged.sort_by_key(|place| place.file_name().and_then(|name| name.to_str()?.parse::<u32>().ok()));
    places.extend(packaged.into_iter().rev().map(|place| place.join("bin")));
    let linked = |place: PathBuf| Some(fs::canonicalize(place.join(names[0])).ok()?.parent()?.to_path_buf());
    places
        .into_iter()
        .filter_map(linked)
        .find(|place| names.iter().all(|name| place.join(name).is_file()))
}
