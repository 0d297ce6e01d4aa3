//! Defines the command line: subcommands, help, exit codes (0 done, 1 failed, 2 wrong usage).
//!
//! Every error is printed as one line, wrong usage too. Must not do a command's work beyond printing its result.

mod application;
mod backup;
mod console;
mod endpoints;
mod healthcheck;
mod link;
mod listen;
mod migrate;
mod outage;
mod output;
mod portal;
mod rotate_key;
mod secrets;
mod seed;
mod server;
mod tail;
mod token;
mod trigger;
mod verify;
mod why;

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use self::output::say;
use crate::config::{ListenSettings, LogSettings, ServeSettings};
use crate::error::{Error, Result};
use crate::telemetry::log::Log;
use crate::{api, app, telemetry};

/// Postrider: accepts messages over REST, stores them durably and delivers them as signed webhooks, at least once.
///
/// Every option is also an environment variable, which its help names, but for three that must be typed each time:
/// --yes of migrate, --new-encryption-key and --drop-former-key of secrets. An empty variable counts as not set, except
/// POSTRIDER_RETRY_SCHEDULE. A secret setting can also be read from a file, which its _FILE form names.
#[derive(Parser)]
#[command(name = "app", version, after_help = EXAMPLES)]
struct Cli {
    #[command(flatten)]
    log: LogSettings,
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  app serve                                     on an SQLite file; the first start in a terminal prints a token
  DATABASE_URL=postgresql://... app migrate     prepare a Postgres database, or update it
  app token create --organization acme          a token for everything of one organization";

#[derive(Subcommand)]
enum Command {
    /// Serve the API and deliver what it accepts
    #[command(after_help = SERVE_NOTES)]
    Serve(Box<ServeSettings>),
    /// Bring the database's schema up to date, show its state, or take it back
    Migrate(migrate::Arguments),
    /// Fill in demo data; running it again changes nothing
    Seed(seed::Arguments),
    /// Make, list and revoke API tokens
    #[command(subcommand)]
    Token(token::Command),
    /// Explain why a message was or was not sent to each endpoint of an application
    Why(why::Arguments),
    /// List the endpoints of all applications, or those that fail or are disabled
    Endpoints(endpoints::Arguments),
    /// Print a link that signs in to the console once
    Console(console::Arguments),
    /// Print a link with which the people of an application use the portal
    Portal(portal::Arguments),
    /// Send a message made of the example of its event type
    Trigger(trigger::Arguments),
    /// Forward the messages of an application to a URL of this machine
    Listen(listen::Arguments),
    /// Print the attempts of deliveries as they are recorded
    Tail(tail::Arguments),
    /// Say whether the signature of a received webhook is valid, and if not, why
    Verify(verify::Arguments),
    /// Copy an SQLite database and its encryption key while it is served
    Backup(backup::Arguments),
    /// Replace the encryption key: encrypt with the new key everything that the former one encrypted
    RotateKey(rotate_key::Arguments),
    /// Print the API document
    Openapi,
    /// Ask the server on this machine whether it lives, whatever the state of its database; the exit code tells
    Healthcheck(ListenSettings),
    /// Write those secrets of a deployment that are missing
    Secrets(secrets::Arguments),
}

const SERVE_NOTES: &str = "\
On SQLite it migrates by itself and makes an encryption key beside the database. On a new database it prints a token
once, if it runs in a terminal. On Postgres `app migrate` brings the schema up to date, the encryption key must be
given, and `app token create` makes tokens. On SIGTERM or SIGINT it accepts nothing more, ends what is in flight, and
exits with 0. SIGHUP is ignored: settings are read once, at the start.";

/// Runs the command that the process was started with, and returns its exit code.
pub fn run() -> ExitCode {
    let log = Log::start();
    match parse(std::env::args_os()) {
        Ok(cli) => match execute(cli, &log) {
            Ok(()) => ExitCode::SUCCESS,
            Err(err) => {
                complain(&log, &err.to_string());
                ExitCode::from(1)
            }
        },
        Err(err) if matches!(err.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            let _ = err.print();
            ExitCode::SUCCESS
        }
        Err(err) if err.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = err.print();
            ExitCode::from(2)
        }
        Err(err) => {
            complain(&log, &usage_line(&err));
            ExitCode::from(2)
        }
    }
}

/// The most threads that the process has: those that run tasks, those that block, and some twenty for SQLite's
/// connections, signals, the log and the start. A test compares it with the `pids_limit` of the Compose files, which
/// leaves the same number to a command that runs beside `serve`.
pub const MOST_THREADS: usize = MOST_WORKERS + MOST_BLOCKING + 32;
/// Threads that run tasks: one per processor, and no more than this. Sending and storing wait for networks and disks,
/// not for processors.
const MOST_WORKERS: usize = 32;
/// Threads for calls that block: lookups of the database's name. Receivers' names are resolved without threads.
const MOST_BLOCKING: usize = 64;

fn execute(cli: Cli, log: &Log) -> Result<()> {
    telemetry::start(&cli.log, log)?;
    if matches!(cli.command, Command::Serve(_)) {
        warn_of_unknown_variables();
    }
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(processors.min(MOST_WORKERS))
        .max_blocking_threads(MOST_BLOCKING)
        .build()
        .map_err(|err| Error::internal("cannot start the runtime").because(err))?;
    let ended = runtime.block_on(async {
        match cli.command {
            Command::Serve(settings) => app::serve(&settings).await,
            Command::Migrate(arguments) => migrate::run(arguments).await,
            Command::Seed(arguments) => seed::run(arguments).await,
            Command::Token(command) => token::run(command).await,
            Command::Why(arguments) => why::run(arguments).await,
            Command::Endpoints(arguments) => endpoints::run(arguments).await,
            Command::Console(arguments) => console::run(arguments).await,
            Command::Portal(arguments) => portal::run(arguments).await,
            Command::Trigger(arguments) => trigger::run(arguments).await,
            Command::Listen(arguments) => listen::run(arguments).await,
            Command::Tail(arguments) => tail::run(arguments).await,
            Command::Verify(arguments) => verify::run(&arguments),
            Command::Backup(arguments) => backup::run(arguments).await,
            Command::RotateKey(arguments) => rotate_key::run(arguments).await,
            Command::Openapi => say(api::document().trim_end()),
            Command::Healthcheck(settings) => healthcheck::run(settings.listen),
            Command::Secrets(arguments) => secrets::run(&arguments),
        }
    });
    // A call that still blocks, such as a lookup of the database's name at a silent name server, must not delay the
    // exit.
    runtime.shutdown_background();
    ended
}

fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::from_arg_matches(&command().try_get_matches_from(arguments)?)
}

/// Returns the command line's definition; empty variables count as not set.
fn command() -> clap::Command {
    without_empty_variables(Cli::command())
}

/// Makes each argument ignore its variable if that is empty: Compose passes a variable that is not set as an empty one.
/// Only an empty retry schedule has a meaning.
fn without_empty_variables(command: clap::Command) -> clap::Command {
    command
        .mut_args(|argument| {
            let is_empty = argument.get_env().is_some_and(|name| {
                name != "POSTRIDER_RETRY_SCHEDULE" && std::env::var_os(name).is_some_and(|value| value.is_empty())
            });
            if is_empty { argument.env(None::<&str>) } else { argument }
        })
        .mut_subcommands(without_empty_variables)
}

/// Shortens clap's error of several lines to one, and adds the environment name of the setting.
fn usage_line(err: &clap::Error) -> String {
    let text = err.render().to_string();
    let text = text.split("\n\nUsage:").next().unwrap_or(&text);
    let text = text.split("\n\nFor more information").next().unwrap_or(text);
    let mut line = text
        .trim_start_matches("error:")
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    let is_known = err.kind() != ErrorKind::UnknownArgument;
    let words = std::env::args_os().skip(1).filter_map(|word| word.into_string().ok());
    if let Some(ContextValue::String(argument)) = err.get(ContextKind::InvalidArg).filter(|_| is_known)
        && let Some(name) = environment_name(&command(), words, argument)
    {
        line.push_str(&format!(" (setting {name})"));
    }
    format!("{line}; try --help")
}

/// Returns the environment name of an argument as clap prints it: `--listen <ADDRESS>` -> `POSTRIDER_LISTEN`. It is an
/// option of the command that `words`, the command line without the program, names. `None` means that it has none.
fn environment_name(command: &clap::Command, words: impl Iterator<Item = String>, argument: &str) -> Option<String> {
    let long = argument.trim_start_matches("--").split([' ', '=', '[']).next()?;
    let mut named = vec![command];
    for word in words {
        named.extend(named[named.len() - 1].find_subcommand(&word));
    }
    // Options of the program itself stand before the command.
    let mut arguments = named.iter().rev().flat_map(|command| command.get_arguments());
    let found = arguments.find(|known| known.get_long() == Some(long))?;
    found.get_env().map(|name| name.to_string_lossy().into_owned())
}

/// Warns of variables that look like settings and are none: a misspelt name would otherwise go unnoticed, and its
/// setting keep the default.
fn warn_of_unknown_variables() {
    let known = variables(&Cli::command());
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for name in names.filter(|name| name.starts_with(PREFIX) && !known.contains(name) && !is_foreign(name)) {
        tracing::warn!(name, "this variable is set, but there is no setting of that name");
    }
}

const PREFIX: &str = "POSTRIDER_";

/// Returns whether the variable `name` comes from elsewhere: Kubernetes sets such variables for each service, and a
/// service may be called postrider; a debug build takes POSTRIDER_CRASH_POINT and POSTRIDER_PANIC_POINT.
fn is_foreign(name: &str) -> bool {
    let is_link = name.contains("_SERVICE_") || name.contains("_PORT");
    is_link && std::env::var_os("KUBERNETES_SERVICE_HOST").is_some()
        || cfg!(debug_assertions) && name.ends_with("_POINT")
}

/// Returns the environment names of all settings of all commands.
fn variables(command: &clap::Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(clap::Arg::get_env);
    let own = own.map(|name| name.to_string_lossy().into_owned());
    own.chain(command.get_subcommands().flat_map(variables)).collect()
}

/// Writes an error as one line, through the log, so that it comes after the lines that were logged before.
fn complain(log: &Log, text: &str) {
    let words: Vec<_> = text.split_whitespace().collect();
    log.say(&format!("error: {}", words.join(" ")));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The options without a variable: a variable that is left over from before would delete a database, or begin or
    /// end a rotation, by accident.
    const TYPED_EACH_TIME: [&str; 3] = [
        "migrate --yes",
        "secrets --new-encryption-key",
        "secrets --drop-former-key",
    ];

    /// Returns each option with its command, as `token create --organization`, and its variable.
    fn options(command: &clap::Command, path: &str) -> Vec<(String, Option<String>)> {
        let own = command.get_arguments().filter_map(|argument| {
            let long = argument.get_long().filter(|long| !["help", "version"].contains(long))?;
            let env = argument.get_env().map(|name| name.to_string_lossy().into_owned());
            Some((format!("{path} --{long}").trim_start().to_owned(), env))
        });
        let below = command.get_subcommands().flat_map(|command| {
            let path = format!("{path} {}", command.get_name());
            options(command, path.trim_start())
        });
        own.chain(below).collect()
    }

    #[test]
    fn every_option_is_a_variable_but_for_those_that_the_help_names() {
        let command = Cli::command();
        let options = options(&command, "");
        let without = options.iter().filter(|(_, env)| env.is_none());
        let without: Vec<&str> = without.map(|(option, _)| option.as_str()).collect();
        assert_eq!(without, TYPED_EACH_TIME);
        let help = command.get_long_about().expect("a help text").to_string();
        for option in TYPED_EACH_TIME {
            let (_, name) = option.split_once(' ').expect("a command and its option");
            assert!(help.contains(name), "{help}");
        }
        assert!(options.len() > 40 && help.contains("but for three"), "{options:?}");
    }

    #[test]
    fn an_error_names_the_variable_of_the_command_that_was_given() {
        let command = Cli::command();
        let options = options(&command, "");
        for (option, env) in &options {
            let (path, long) = option.rsplit_once("--").expect("a command and its option");
            let words = path.split_whitespace().chain(["--json", "serve"]).map(str::to_owned);
            let name = environment_name(&command, words, &format!("--{long} <VALUE>"));
            assert_eq!(&name, env, "{option}");
        }
        let name = |words: [&str; 2], long| environment_name(&command, words.map(str::to_owned).into_iter(), long);
        assert_eq!(
            name(["verify", "--header"], "--header <H>").as_deref(),
            Some("POSTRIDER_VERIFY_HEADER")
        );
        assert_eq!(name(["verify", "--failing"], "--failing"), None, "another command's");
    }

    #[test]
    fn a_variable_belongs_to_one_option_whichever_command_takes_it() {
        let options = options(&Cli::command(), "");
        let mut names = std::collections::BTreeMap::new();
        for (option, env) in options
            .iter()
            .filter_map(|(option, env)| Some((option, env.as_deref()?)))
        {
            let long = option.rsplit("--").next().expect("its name");
            let known = *names.entry(env).or_insert(long);
            assert_eq!(known, long, "{env}");
        }
    }
}
