//! The real binary, run to its end or serving in the background. Its environment holds only what the test sets.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::pty::openpty;

use super::database::ScratchFolder;
use super::within::{DEADLINE, Patience, within};

/// An encryption key for tests.
pub const KEY: &str = "a key for tests of 32 characters";

/// The binary's environment and working folder.
#[derive(Clone)]
pub struct Program {
    environment: BTreeMap<String, String>,
    folder: Arc<ScratchFolder>,
}

/// The exit code and the output of a command that has ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A command in the background; killed when dropped.
pub struct Running {
    child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    /// Keeps the working folder while the process runs, even if the [`Program`] was dropped.
    _folder: Arc<ScratchFolder>,
}

/// A `serve` in the background.
pub struct Serving {
    running: Running,
    address: SocketAddr,
}

impl Program {
    /// Returns a program without any setting, in a scratch folder.
    pub fn bare() -> Self {
        let folder = ScratchFolder::new().expect("a scratch folder can be made");
        Self {
            environment: BTreeMap::new(),
            folder: Arc::new(folder),
        }
    }

    /// Returns a program on the database at `url`, with an encryption key and a free port.
    pub fn on(url: &str) -> Self {
        Self::bare()
            .env("DATABASE_URL", url)
            .env("POSTRIDER_ENCRYPTION_KEY", KEY)
            .env("POSTRIDER_LISTEN", "127.0.0.1:0")
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// Returns the program's working folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a command without waiting for its end.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("the binary starts")
    }

    /// Returns a command with pipes for its output.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_app"));
        command
            .args(arguments)
            .env_clear()
            .envs(&self.environment)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub async fn run(&self, arguments: &[&str]) -> Ended {
        Self::ended(self.start(arguments)).await
    }

    /// Runs a command to its end, with this standard input.
    pub async fn feed(&self, arguments: &[&str], input: &[u8]) -> Ended {
        let child = self.command(arguments).stdin(Stdio::piped()).spawn();
        let mut child = child.expect("the binary starts");
        // A command that does not read its input ends without it.
        let _ = child.stdin.take().expect("a pipe").write_all(input);
        Self::ended(child).await
    }

    /// Starts a command in the background.
    pub fn follow(&self, arguments: &[&str]) -> Running {
        let mut child = self.start(arguments);
        let stdout = collect(child.stdout.take().expect("a pipe"));
        self.running(child, stdout)
    }

    fn running(&self, mut child: Child, stdout: Arc<Mutex<String>>) -> Running {
        let stderr = collect(child.stderr.take().expect("a pipe"));
        Running {
            child,
            stdout,
            stderr,
            _folder: self.folder.clone(),
        }
    }

    async fn ended(child: Child) -> Ended {
        let ended = tokio::task::spawn_blocking(move || child.wait_with_output()).await;
        let output = ended.expect("no panic").expect("the command's output can be read");
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// Starts `serve` and returns once it listens.
    ///
    /// # Panics
    /// If the process ends instead; the message holds its output.
    pub async fn serve(&self) -> Serving {
        let mut child = self.start(&["serve"]);
        let stdout = collect(child.stdout.take().expect("a pipe"));
        self.served_by(child, stdout).await
    }

    /// Starts `serve` with a terminal as its standard output and returns once it listens.
    pub async fn serve_in_terminal(&self) -> Serving {
        let terminal = openpty(None, None).expect("a terminal");
        let child = self.command(&["serve"]).stdout(terminal.slave).spawn();
        let stdout = collect(File::from(terminal.master));
        self.served_by(child.expect("the binary starts"), stdout).await
    }

    async fn served_by(&self, child: Child, stdout: Arc<Mutex<String>>) -> Serving {
        let mut running = self.running(child, stdout);
        let address = within(DEADLINE, "serve says where it listens", async || {
            let said = running.stderr();
            if let Some(ended) = running.child.try_wait().expect("the process has a state") {
                panic!("serve ended with {ended}: {said}");
            }
            let after = said.split("serving address=").nth(1)?;
            after.split_whitespace().next()?.parse().ok()
        })
        .await;
        Serving { running, address }
    }
}

impl Ended {
    /// Returns the standard output of a command that succeeded.
    ///
    /// # Panics
    /// If it failed.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// Returns the single error line of a command that ended with `code`.
    ///
    /// # Panics
    /// If it ended with another code, if there is not exactly one error line, or if that is not the last line.
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{} {}", self.stdout, self.stderr);
        let errors: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "exactly one error line: {}", self.stderr);
        assert_eq!(
            self.stderr.lines().last(),
            Some(errors[0]),
            "the error is the last line"
        );
        errors[0].to_owned()
    }
}

impl Serving {
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

impl Deref for Serving {
    type Target = Running;

    fn deref(&self) -> &Running {
        &self.running
    }
}

impl DerefMut for Serving {
    fn deref_mut(&mut self) -> &mut Running {
        &mut self.running
    }
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn stdout(&self) -> String {
        self.stdout.lock().expect("no panic").clone()
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().expect("no panic").clone()
    }

    /// Sends a signal, such as `TERM` or `STOP`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{name}"), &self.pid().to_string()])
            .status();
        assert!(
            sent.expect("kill runs").success(),
            "the process exists and takes signals"
        );
    }

    /// Waits for the end of the process and returns its exit code.
    pub async fn end(&mut self) -> Option<i32> {
        within(DEADLINE, "the process ends", async || {
            self.child
                .try_wait()
                .expect("the process has a state")
                .map(|status| status.code())
        })
        .await
    }

    /// Waits until the lines of standard output satisfy `are_so`, and returns them.
    ///
    /// # Panics
    /// After [`DEADLINE`]; `what` names the thing that did not happen.
    pub async fn wait_for_lines(&self, what: &str, are_so: impl Fn(&[String]) -> bool) -> Vec<String> {
        let mut patience = Patience::of(DEADLINE);
        loop {
            let lines: Vec<_> = self.stdout().lines().map(str::to_owned).collect();
            if are_so(&lines) {
                return lines;
            }
            let over = patience.is_over().await;
            assert!(
                !over,
                "still not so after {DEADLINE:?}: {what}; {lines:?}; {}",
                self.stderr()
            );
        }
    }

    /// Waits until standard error contains `words`.
    ///
    /// # Panics
    /// After [`DEADLINE`].
    pub async fn wait_for_words(&self, words: &str) {
        within(DEADLINE, words, async || self.stderr().contains(words).then_some(())).await;
    }

    /// Asks the process to stop (SIGTERM), waits for its end and returns its exit code.
    pub async fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.end().await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Collects the lines of a pipe on a thread of its own.
fn collect(pipe: impl Read + Send + 'static) -> Arc<Mutex<String>> {
    let collected = Arc::new(Mutex::new(String::new()));
    let sink = collected.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut text = sink.lock().expect("no panic");
            text.push_str(&line);
            text.push('\n');
        }
    });
    collected
}
