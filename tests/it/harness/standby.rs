//! A primary Postgres server with an asynchronous standby, for tests that lose the primary. Both are started from the
//! machine's server binaries and end with the test.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use super::postgres::{find_binaries, free_port, unprivileged_shell};

/// Two servers; the standby follows the primary until it is stopped.
pub struct Replicated {
    shell: Child,
    /// The script's input. Closing it ends both servers.
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    ports: [u16; 2],
}

/// Starts both servers, then carries out one order per line of its input. The end of its input ends both servers.
const SCRIPT: &str = r#"
folder=$(mktemp -d "${TMPDIR:-/tmp}/postrider-standby-XXXXXX") || exit 1
log="$folder/log"
start() {
    "$BIN/pg_ctl" -D "$folder/$1" -l "$log" -w -t 60 start </dev/null >>"$log" 2>&1 -o \
        "-c listen_addresses=127.0.0.1 -c port=$2 -c unix_socket_directories='' -c fsync=off -c shared_buffers=32MB"
}
control() { "$BIN/pg_ctl" -D "$folder/$1" -w -t 60 $2 </dev/null >>"$log" 2>&1; }
{
    "$BIN/initdb" -D "$folder/primary" -U postgres -A trust -E UTF8 --locale=C --no-sync </dev/null >>"$log" 2>&1 &&
        start primary "$PRIMARY" &&
        "$BIN/pg_basebackup" -D "$folder/standby" -h 127.0.0.1 -p "$PRIMARY" -U postgres -R -X stream -c fast --no-sync \
            </dev/null >>"$log" 2>&1 &&
        start standby "$STANDBY" && echo done
} || echo "failed: $(tail -n 5 "$log" | tr '\n' ' ')"
while read -r order; do
    case "$order" in
        stop_standby) control standby "-m fast stop" ;;
        kill_primary)
            pid=$(head -n 1 "$folder/primary/postmaster.pid")
            kill -9 "$pid" $(cat "/proc/$pid/task/$pid/children") ;;
        promote_standby) start standby "$STANDBY" && control standby promote ;;
    esac && echo done || echo "failed: $(tail -n 5 "$log" | tr '\n' ' ')"
done
for server in primary standby; do control $server "-m immediate stop"; done
rm -rf "$folder"
"#;

impl Replicated {
    /// Starts both servers. `None` means that the machine has no server binaries.
    ///
    /// # Panics
    /// If there are binaries and the servers do not start.
    pub fn start() -> Option<Self> {
        let binaries = find_binaries()?;
        let ports = [(); 2].map(|()| free_port().expect("a loopback port is free"));
        let mut shell = unprivileged_shell(SCRIPT)
            .env("BIN", binaries)
            .env("PRIMARY", ports[0].to_string())
            .env("STANDBY", ports[1].to_string())
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .expect("a shell starts");
        let orders = shell.stdin.take();
        let answers = BufReader::new(shell.stdout.take().expect("a pipe"));
        let mut servers = Self {
            shell,
            orders,
            answers,
            ports,
        };
        servers.is_done();
        Some(servers)
    }

    pub fn primary_url(&self) -> String {
        self.url(0)
    }

    pub fn standby_url(&self) -> String {
        self.url(1)
    }

    fn url(&self, server: usize) -> String {
        format!("postgresql://postgres@127.0.0.1:{}/postgres", self.ports[server])
    }

    /// Stops the standby: it receives nothing that the primary commits from now on.
    pub fn stop_standby(&mut self) {
        self.order("stop_standby");
    }

    /// Kills all processes of the primary at once (`kill -9`), so what only the primary has committed is lost. Then
    /// makes the standby accept writes.
    pub fn fail_over(&mut self) {
        self.order("kill_primary");
        self.order("promote_standby");
    }

    fn order(&mut self, order: &str) {
        let orders = self.orders.as_mut().expect("the shell has a pipe");
        writeln!(orders, "{order}").expect("the shell reads");
        self.is_done();
    }

    fn is_done(&mut self) {
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("the shell answers");
        assert_eq!(answer.trim(), "done");
    }
}

/// Ends both servers and waits for them, so that neither outlives the test.
impl Drop for Replicated {
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.shell.wait();
    }
}
