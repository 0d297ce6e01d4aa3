//! The Postgres server of this test process: the one at `TEST_DATABASE_URL`, or one that is started in a scratch
//! folder, as an unprivileged user, from the machine's server binaries.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;

use url::Url;

use super::database;

pub struct Server {
    /// The server's URL, with the name of a database that exists on every server.
    url: Url,
    /// The name of the migrated database of which each test gets a copy.
    pub template: String,
    /// A pipe to the shell that runs the server. It closes when this process ends, and the shell then stops the server.
    _alive: Option<ChildStdin>,
}

impl Server {
    /// Returns the URL of the database `name` on this server.
    pub fn url_of(&self, name: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(name);
        url
    }

    pub fn url(&self) -> &Url {
        &self.url
    }
}

/// Returns the server; the first call starts it. `None` means that the machine has none, which one line on stderr says.
///
/// # Panics
/// If there is a server and it does not start: that is a failure, not a reason to skip tests.
pub fn server() -> Option<&'static Server> {
    static SERVER: OnceLock<Result<Option<Server>, String>> = OnceLock::new();
    match SERVER.get_or_init(find_or_start) {
        Ok(server) => server.as_ref(),
        Err(reason) => panic!("Postgres: {reason}"),
    }
}

fn find_or_start() -> Result<Option<Server>, String> {
    let (url, alive) = if let Ok(given) = std::env::var("TEST_DATABASE_URL") {
        let url = Url::parse(&given).map_err(|err| format!("TEST_DATABASE_URL: {err}"))?;
        (url, None)
    } else if let Some(binaries) = find_binaries() {
        let (url, alive) = start(&binaries)?;
        (url, Some(alive))
    } else {
        say_what_is_left_out();
        return Ok(None);
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|err| err.to_string())?;
    let template = runtime
        .block_on(database::migrated_template(&url))
        .map_err(|err| err.to_string())?;
    Ok(Some(Server {
        url,
        template,
        _alive: alive,
    }))
}

/// Returns the folder with `initdb`, `pg_ctl` and `postgres`: the newest of Debian's, else the first on the PATH.
pub fn find_binaries() -> Option<PathBuf> {
    let complete = |folder: &PathBuf| {
        ["initdb", "pg_ctl", "postgres"]
            .iter()
            .all(|name| folder.join(name).is_file())
    };
    let version = |folder: &PathBuf| folder.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    let debian = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = debian
        .map(|entry| entry.path().join("bin"))
        .filter(complete)
        .max_by_key(version);
    let path = std::env::var_os("PATH").unwrap_or_default();
    newest.or_else(|| std::env::split_paths(&path).find(complete))
}

/// Starts a server, and stops it when this process ends in whatever way. Text sorts by a language's rules if the
/// binaries can do that (ICU), so that a test fails if a column forgets to sort by bytes.
const SCRIPT: &str = r#"
folder=$(mktemp -d "${TMPDIR:-/tmp}/postrider-postgres-XXXXXX") || exit 1
log="$folder/log"
new() { "$BIN/initdb" -D "$folder/db" -U postgres -A trust -E UTF8 --locale=C --no-sync "$@" </dev/null >>"$log" 2>&1; }
start() {
    "$BIN/pg_ctl" -D "$folder/db" -l "$log" -w -t 60 start </dev/null >>"$log" 2>&1 -o \
        "-c listen_addresses=127.0.0.1 -c port=$PORT -c unix_socket_directories='' -c max_connections=400 \
         -c fsync=off -c full_page_writes=off -c shared_buffers=128MB"
}
{ new --locale-provider=icu --icu-locale=en-US || { rm -rf "$folder/db"; new; }; } && start || {
    echo "failed: $(tail -n 5 "$log" | tr '\n' ' ')"; rm -rf "$folder"; exit 1; }
echo ready
cat >/dev/null
"$BIN/pg_ctl" -D "$folder/db" -m immediate stop >/dev/null 2>&1
rm -rf "$folder"
"#;

fn start(binaries: &Path) -> Result<(Url, ChildStdin), String> {
    let mut reason = String::new();
    // Another process may take the free port before the server binds it.
    for _ in 0..3 {
        let port = free_port().map_err(|err| err.to_string())?;
        let mut child = unprivileged_shell(SCRIPT)
            .env("BIN", binaries)
            .env("PORT", port.to_string())
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .map_err(|err| format!("cannot start a shell: {err}"))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(alive), Some(stdout)) = (stdin, stdout) else {
            return Err("the shell has no pipes".to_owned());
        };
        let mut line = String::new();
        BufReader::new(stdout)
            .read_line(&mut line)
            .map_err(|err| err.to_string())?;
        if line.trim() == "ready" {
            let url = format!("postgresql://postgres@127.0.0.1:{port}/postgres");
            return Ok((Url::parse(&url).map_err(|err| err.to_string())?, alive));
        }
        reason = line;
    }
    Err(format!("{} does not start: {reason}", binaries.display()))
}

pub(super) fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

/// Returns a shell that runs `script` without privileges. initdb refuses to run as root, so root switches to the user
/// `postgres`, or to `nobody` if there is none.
pub(super) fn unprivileged_shell(script: &str) -> Command {
    if !is_root() {
        let mut shell = Command::new("sh");
        shell.args(["-c", script]);
        return shell;
    }
    let user = if has_user("postgres") { "postgres" } else { "nobody" };
    let mut shell = if Command::new("setpriv").arg("--version").output().is_ok() {
        let mut setpriv = Command::new("setpriv");
        setpriv.args([&format!("--reuid={user}"), "--clear-groups", "sh", "-c", script]);
        setpriv
    } else {
        let mut su = Command::new("su");
        su.args(["-s", "/bin/sh", "-c", script, user]);
        su
    };
    shell.env_remove("HOME");
    shell
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|answer| answer.stdout.trim_ascii() == b"0")
}

fn has_user(name: &str) -> bool {
    Command::new("id")
        .arg(name)
        .output()
        .is_ok_and(|answer| answer.status.success())
}

/// Writes one line to stderr about the tests that are left out. `writeln!` bypasses libtest's capture, which catches
/// only the print macros; the line begins with a newline, because libtest may have begun one. The count comes from this
/// binary itself, which lists the tests that the same arguments select. `.ci/run` looks for "left out".
fn say_what_is_left_out() {
    let listed =
        std::env::current_exe().and_then(|exe| Command::new(exe).args(std::env::args().skip(1)).arg("--list").output());
    let listed = listed
        .map(|answer| String::from_utf8_lossy(&answer.stdout).into_owned())
        .unwrap_or_default();
    let count = listed.lines().filter(|line| line.ends_with("::postgres: test")).count();
    let _ = writeln!(
        std::io::stderr(),
        "\npostgres: not found, {count} store and delivery tests left out, they ran on SQLite only"
    );
}
