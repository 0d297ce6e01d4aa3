//! Settings: where each can be set, how it is checked, and that secrets are never shown. Compares the settings of
//! `--help` with docs/operating.md and with the Compose files.

use std::collections::BTreeSet;

use postrider::cli::MOST_THREADS;

use crate::harness::Program;

const SECRET: &str = "do-not-show-this-to-anyone-please";

const OPERATING: &str = include_str!("../../docs/operating.md");

/// Returns the environment name and the default of each setting in `app serve --help`. The default stands on a line of
/// its own, or at the end of the description.
async fn settings_in_help() -> Vec<(String, Option<String>)> {
    let help = Program::bare().run(&["serve", "--help"]).await.ok();
    let mut settings: Vec<(String, Option<String>)> = Vec::new();
    let mut said = None;
    for line in help.lines().map(str::trim) {
        if line.starts_with("--") {
            said = None;
        } else if let Some(name) = line.strip_prefix("[env: ") {
            settings.push((name.trim_end_matches([']', '=']).to_owned(), said.take()));
        } else if let Some(default) = line.strip_prefix("[default: ")
            && let Some((_, last)) = settings.last_mut()
        {
            *last = Some(default.trim_end_matches(']').to_owned());
        } else if let Some((_, default)) = line.rsplit_once(" [default: ") {
            said = Some(default.trim_end_matches(']').to_owned());
        }
    }
    settings
}

/// Returns the settings that can be read from a file too.
async fn settings_with_a_file() -> Vec<String> {
    let settings = settings_in_help().await;
    let has_file = |name: &str| settings.iter().any(|(other, _)| *other == format!("{name}_FILE"));
    let names = settings.iter().map(|(name, _)| name);
    let found: Vec<_> = names.filter(|name| has_file(name)).cloned().collect();
    assert!(found.len() >= 5, "{found:?}");
    found
}

/// Returns the names and the default in each row of the table in docs/operating.md.
fn settings_in_guide() -> Vec<(Vec<String>, String)> {
    let table = OPERATING
        .split("| setting | default | meaning |")
        .nth(1)
        .expect("docs/operating.md has the table");
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let names = cells[0]
            .split(',')
            .map(|name| name.trim().trim_matches('`').to_owned())
            .collect();
        (names, cells[1].trim_matches('`').to_owned())
    })
    .collect()
}

#[tokio::test]
async fn the_operating_guide_lists_exactly_the_settings_that_help_shows_with_their_defaults() {
    let help = settings_in_help().await;
    let guide = settings_in_guide();
    let in_help: BTreeSet<&str> = help.iter().map(|(name, _)| name.as_str()).collect();
    let in_guide: BTreeSet<&str> = guide.iter().flat_map(|(names, _)| names).map(String::as_str).collect();
    assert_eq!(
        in_help, in_guide,
        "`app serve --help` (left) and docs/operating.md (right)"
    );
    for (name, default) in help {
        let (names, cell) = guide
            .iter()
            .find(|(names, _)| names.contains(&name))
            .expect("compared above");
        if name.ends_with("_FILE") && *name != names[0] {
            assert_eq!(default, None, "a file form has no default of its own");
            continue;
        }
        let default = default.unwrap_or_default();
        assert_eq!(*cell, default, "the default of {name} in docs/operating.md");
    }
}

const COMPOSE: &str = include_str!("../../docker-compose.yml");
const DOCKERFILE: &str = include_str!("../../Dockerfile");

/// Returns the names in the block of docker-compose.yml that follows `above`, each with whether the stack sets a value.
fn environment_below(above: &str) -> Vec<(String, bool)> {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let (_, below) = COMPOSE.split_once(above).expect("docker-compose.yml has this block");
    let lines = below.lines().skip(1);
    let least = depth(lines.clone().next().expect("a line"));
    let lines = lines.take_while(|line| depth(line) >= least).map(str::trim);
    let entries = lines.filter(|line| !line.starts_with(['#', '<']));
    let entries = entries.map(|line| line.split_once(':').expect("NAME: VALUE"));
    entries
        .map(|(name, value)| (name.to_owned(), !value.is_empty()))
        .collect()
}

#[tokio::test]
async fn compose_passes_every_setting_on_but_for_those_that_the_operating_guide_names() {
    let mut passed = environment_below("\nx-database: &database");
    let (_, app) = COMPOSE.split_once("\n  app:\n").expect("a service");
    let (above, _) = app.split_once("    environment:").expect("its environment");
    passed.extend(environment_below(&format!("\n  app:\n{above}    environment:")));
    let image = DOCKERFILE.split_whitespace().filter_map(|word| word.split_once('='));
    let image = image.filter(|(name, _)| name.starts_with("POSTRIDER_"));
    passed.extend(image.map(|(name, _)| (name.to_owned(), true)));
    // The stack sets either a value or its file form, not both.
    let is_settled = |name: &str| {
        let other = name.strip_suffix("_FILE").map_or(format!("{name}_FILE"), str::to_owned);
        passed
            .iter()
            .any(|(known, set)| known == name || *set && *known == other)
    };
    let help: BTreeSet<String> = settings_in_help().await.into_iter().map(|(name, _)| name).collect();
    let left: BTreeSet<&str> = help
        .iter()
        .map(String::as_str)
        .filter(|name| !is_settled(name))
        .collect();

    let said = OPERATING.split_whitespace().collect::<Vec<_>>().join(" ");
    let (_, said) = said
        .split_once("It does not pass on: ")
        .expect("docs/operating.md names the settings that are not passed on");
    let (said, _) = said.split_once(". ").expect("the list ends with a full stop");
    let named = said.split('`').skip(1).step_by(2).filter(|name| name.contains('_'));
    assert_eq!(
        left,
        named.collect(),
        "left: not passed on, right: named so in docs/operating.md"
    );
    let known = |(name, _): &&(String, bool)| !help.contains(name);
    assert_eq!(
        passed.iter().find(known),
        None,
        "no setting has the name that Compose passes on"
    );
}

#[test]
fn compose_gives_the_program_as_many_threads_as_it_may_start() {
    let others = [
        include_str!("../../examples/compose/production/docker-compose.yml"),
        include_str!("../../examples/compose/sqlite/docker-compose.yml"),
    ];
    for file in [COMPOSE].into_iter().chain(others) {
        let limit = file
            .split_once("\n  pids_limit: ")
            .expect("the file has a limit for all services")
            .1;
        let limit = limit.lines().next().expect("a line").trim();
        let limit: usize = limit.parse().expect("a number");
        assert!(
            limit >= 2 * MOST_THREADS,
            "{limit} is too few for `serve` and one other command"
        );
    }
}

#[tokio::test]
async fn networks_of_targets_are_checked_at_the_start() {
    for name in ["ALLOW", "REFUSE"] {
        let program = Program::bare().env(&format!("POSTRIDER_{name}_TARGETS"), "10.0.0.0/8, 10.0");
        let line = program.run(&["serve", "--listen", "127.0.0.1:0"]).await.failed(2);
        let option = format!("--{}-targets", name.to_lowercase());
        assert!(
            line.contains(&option) && line.contains("'10.0': each must be a network"),
            "{line}"
        );
    }
}

#[tokio::test]
async fn help_shows_no_secret_that_is_set() {
    let program = settings_with_a_file()
        .await
        .iter()
        .fold(Program::bare(), |program, name| program.env(name, SECRET));
    for help in ["-h", "--help"] {
        let text = program.run(&["serve", help]).await.ok();
        assert!(!text.contains(SECRET), "{text}");
    }
}

#[tokio::test]
async fn a_setting_and_its_file_form_together_are_refused() {
    for name in settings_with_a_file().await {
        let program = Program::bare()
            .env(&name, SECRET)
            .env(&format!("{name}_FILE"), "somewhere");
        let line = program.run(&["serve", "--listen", "127.0.0.1:0"]).await.failed(1);
        assert!(line.contains(&format!("{name} and {name}_FILE are both set")), "{line}");
        assert!(!line.contains(SECRET), "{line}");
    }
}

#[tokio::test]
async fn a_secret_that_is_too_short_is_refused_without_being_shown() {
    for (name, least) in [("POSTRIDER_ADMIN_TOKEN", 20), ("POSTRIDER_ENCRYPTION_KEY", 32)] {
        let short: String = "ü".repeat(least - 1);
        let line = Program::bare()
            .env(name, &short)
            .run(&["serve", "--listen", "127.0.0.1:0"])
            .await
            .failed(1);
        assert!(
            line.contains(name) && line.contains(&format!("{least} characters")),
            "{line}"
        );
        assert!(!line.contains('ü'), "{line}");
    }
}

#[tokio::test]
async fn an_admin_token_with_white_space_is_refused_without_being_shown() {
    for token in [
        " a-token-of-the-operator",
        "a-token-of-the-operator ",
        "a-token of-the-operator",
        "a-token\u{a0}of-the-operator",
        "a-new-token-of-the-operator\na-token-of-the-operator ",
    ] {
        let program = Program::bare().env("POSTRIDER_ADMIN_TOKEN", token);
        let line = program.run(&["serve", "--listen", "127.0.0.1:0"]).await.failed(1);
        assert!(
            line.contains("POSTRIDER_ADMIN_TOKEN must not contain white space"),
            "{line}"
        );
        assert!(!line.contains("operator"), "{line}");
    }
}

#[tokio::test]
async fn a_rotated_secret_has_two_lines_and_no_third() {
    let line = "long-enough-to-be-any-of-them,-the-key-too";
    for name in ["POSTRIDER_ADMIN_TOKEN", "POSTRIDER_ENCRYPTION_KEY"] {
        for (lines, rule) in [
            (format!("{line}\n{line}\n{line}"), "it has 3"),
            (format!("{line}\nshort"), "it has 5"),
            (format!("{line}\n"), "line 2, must have"),
        ] {
            let program = Program::bare().env(name, &lines);
            let said = program.run(&["serve", "--listen", "127.0.0.1:0"]).await.failed(1);
            assert!(said.contains(name) && said.contains(rule), "{said}");
            assert!(!said.contains(line) && !said.contains("short"), "{said}");
        }
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_is_named() {
    let program = Program::bare().env("POSTRIDER_ENCRYPTION_KEY_FILE", "/nowhere/key");
    let line = program.run(&["serve", "--listen", "127.0.0.1:0"]).await.failed(1);
    assert!(
        line.contains("POSTRIDER_ENCRYPTION_KEY_FILE") && line.contains("/nowhere/key"),
        "{line}"
    );
}

#[tokio::test]
async fn an_empty_variable_counts_as_not_set() {
    let names = settings_in_help().await;
    let program = names
        .iter()
        .filter(|(name, _)| name != "POSTRIDER_RETRY_SCHEDULE")
        .fold(Program::bare(), |program, (name, _)| program.env(name, ""));
    let mut serving = program
        .env("POSTRIDER_LISTEN", "127.0.0.1:0")
        .env("POSTRIDER_RETRY_SCHEDULE", "")
        .serve()
        .await;
    assert_eq!(serving.stop().await, Some(0));
}

#[tokio::test]
async fn the_database_url_is_read_from_a_file_whose_line_end_is_cut() {
    let program = Program::bare().env("DATABASE_URL_FILE", "url");
    std::fs::write(program.folder().join("url"), "sqlite://from-file.sqlite\n").expect("the file is written");
    program.run(&["migrate"]).await.ok();
    assert!(program.folder().join("from-file.sqlite").exists());
}

#[tokio::test]
async fn a_database_that_is_neither_a_file_nor_postgres_is_refused_without_showing_the_url() {
    for (url, rule) in [
        (
            "mysql://user:do-not-show@db/app",
            "must start with sqlite:// or postgresql://",
        ),
        ("sqlite::memory:", "must name a file"),
        ("sqlite://", "must name a file"),
        (
            "sqlite://data/x.sqlite?mode=do-not-show",
            "takes no parameters but mode=rwc",
        ),
        (
            "postgresql://user:12/do-not-show@db/app",
            "has an @, / or # where none can be",
        ),
        ("postgresql://user:do-not-show:54x32/app", "is not a URL"),
        (
            "postgresql://user@db/app?sslmode=do-not-show",
            "has a parameter sslmode, which must be",
        ),
    ] {
        for (name, command) in [("DATABASE_URL", "serve"), ("MIGRATE_DATABASE_URL", "migrate")] {
            let line = Program::bare().env(name, url).run(&[command]).await.failed(1);
            assert!(line.contains(&format!("{name} {rule}")), "{line}");
            assert!(!line.contains("do-not-show"), "{line}");
        }
    }
}
