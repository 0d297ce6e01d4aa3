//! The real binary: run to its end, or serving in the background. Its environment is what a test gives it, nothing else.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::pty::openpty;

use super::database::ScratchFolder;
use super::within::{DEADLINE, within};

/// A key for tests, as good as any.
pub const KEY: &str = "a key for tests of 32 characters";

/// How the binary is started: on which database, with which environment, in a folder of its own.
#[derive(Clone)]
pub struct Program {
    environment: BTreeMap<String, String>,
    folder: Arc<ScratchFolder>,
}

/// What a command that has ended left behind.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A `serve` in the background; killed when dropped.
pub struct Serving {
    child: Child,
    address: SocketAddr,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
    /// Its program may be gone by now, its files must not be.
    _folder: Arc<ScratchFolder>,
}

impl Program {
    /// Without any setting, in a scratch folder.
    pub fn bare() -> Self {
        let folder = ScratchFolder::new().expect("a scratch folder can be made");
        Self {
            environment: BTreeMap::new(),
            folder: Arc::new(folder),
        }
    }

    /// On this database, with a key and a free port.
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

    /// The folder that it runs in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a command without waiting for its end.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("the binary starts")
    }

    /// A command with pipes for its output.
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
        let child = self.start(arguments);
        let ended = tokio::task::spawn_blocking(move || child.wait_with_output()).await;
        let output = ended.expect("no panic").expect("the command's output can be read");
        Ended {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).expect("text"),
            stderr: String::from_utf8(output.stderr).expect("text"),
        }
    }

    /// `serve`, as soon as it answers.
    ///
    /// # Panics
    /// When it ends instead, with what it said.
    pub async fn serve(&self) -> Serving {
        let mut child = self.start(&["serve"]);
        let stdout = collect(child.stdout.take().expect("a pipe"));
        self.served_by(child, stdout).await
    }

    /// The same, with a terminal as its standard output.
    pub async fn serve_in_terminal(&self) -> Serving {
        let terminal = openpty(None, None).expect("a terminal");
        let child = self.command(&["serve"]).stdout(terminal.slave).spawn();
        let stdout = collect(File::from(terminal.master));
        self.served_by(child.expect("the binary starts"), stdout).await
    }

    async fn served_by(&self, mut child: Child, stdout: Arc<Mutex<String>>) -> Serving {
        let stderr = collect(child.stderr.take().expect("a pipe"));
        let address = within(DEADLINE, "serve says where it listens", async || {
            let said = stderr.lock().expect("no panic").clone();
            if let Some(ended) = child.try_wait().expect("its state can be asked for") {
                panic!("serve ended with {ended}: {said}");
            }
            let after = said.split("serving address=").nth(1)?;
            after.split_whitespace().next()?.parse().ok()
        })
        .await;
        Serving {
            child,
            address,
            stdout,
            stderr,
            _folder: self.folder.clone(),
        }
    }
}

impl Ended {
    /// Its standard output, after a success.
    ///
    /// # Panics
    /// When it failed.
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.stderr);
        self.stdout
    }

    /// Its one line of error, after it ended with `code`.
    ///
    /// # Panics
    /// When it ended otherwise or said more.
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{} {}", self.stdout, self.stderr);
        let errors: Vec<&str> = self.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "one line of error: {}", self.stderr);
        assert_eq!(self.stderr.lines().last(), Some(errors[0]), "and it is the last line");
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
            "the process is there to be signalled"
        );
    }

    /// Waits for its end; answers the exit code.
    pub async fn end(&mut self) -> Option<i32> {
        within(DEADLINE, "serve ends", async || {
            self.child
                .try_wait()
                .expect("its state can be asked for")
                .map(|status| status.code())
        })
        .await
    }

    /// Asks it to stop, and waits until it has.
    pub async fn stop(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.end().await
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What comes out of a pipe, as it comes.
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
