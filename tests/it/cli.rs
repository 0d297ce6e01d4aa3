//! The command line: help, exit codes, one-line errors, tokens, secret files.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Program, rows};

#[tokio::test]
async fn help_names_every_command_and_ends_with_success() {
    let help = Program::bare().run(&["--help"]).await.ok();
    for command in [
        "serve",
        "migrate",
        "seed",
        "token",
        "why",
        "endpoints",
        "console",
        "portal",
        "trigger",
        "listen",
        "tail",
        "verify",
        "backup",
        "rotate-key",
        "openapi",
        "healthcheck",
        "secrets",
    ] {
        assert!(
            help.lines()
                .any(|line| line.trim_start().starts_with(&format!("{command} "))),
            "{command}: {help}"
        );
    }
    let version = Program::bare().run(&["--version"]).await.ok();
    assert_eq!(version.trim(), format!("app {}", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn wrong_usage_ends_with_2_and_one_line_that_names_the_setting() {
    let bare = Program::bare();
    for (arguments, expected) in [
        (vec!["nonsense"], "nonsense"),
        (vec!["token", "create"], "--organization"),
        (vec!["serve", "--listen", "here"], "POSTRIDER_LISTEN"),
        (vec!["serve", "--intake-batch", "0"], "POSTRIDER_INTAKE_BATCH"),
        (
            vec!["serve", "--allow-targets", "10.0.0.0/99"],
            "POSTRIDER_ALLOW_TARGETS",
        ),
        (vec!["serve", "--attempt-timeout", "61"], "1 to 60"),
        (vec!["token", "create", "--organization", " "], "1 to 256 characters"),
    ] {
        let line = bare.run(&arguments).await.failed(2);
        assert!(line.contains(expected), "{arguments:?}: {line}");
    }
}

#[tokio::test]
async fn without_a_command_it_shows_help_and_ends_with_2() {
    let ended = Program::bare().run(&[]).await;
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("Usage:"), "{}", ended.stderr);
}

both!(a_token_is_printed_alone_and_only_its_hash_is_stored, async |db| {
    let program = Program::on(db.url());
    let token = program.run(&["token", "create", "--organization", "acme"]).await.ok();
    let token = token.strip_suffix('\n').expect("a line");
    assert!(token.starts_with("pr_") && token.len() == 46, "{token}");

    let again = program.run(&["token", "create", "--organization", "acme"]).await.ok();
    assert_ne!(again.trim(), token);
    let connection = db.connect().await;
    assert_eq!(rows(&connection, "select name from organization").await.len(), 1);
    let stored = rows(&connection, "select hash from api_token order by id").await;
    let hash: String = stored[0].try_get("", "hash").expect("a hash");
    assert_eq!(hash, postrider::domain::token::hash(token));
});

both!(tokens_are_listed_and_revoked, async |db| {
    let program = Program::on(db.url());
    for arguments in [
        &["--organization", "acme"][..],
        &["--organization", "globex", "--expires-in", "7"],
    ] {
        program.run(&[&["token", "create"], arguments].concat()).await.ok();
    }
    let list = program.run(&["token", "list"]).await.ok();
    let lines: Vec<&str> = list.lines().collect();
    assert_eq!(lines.len(), 3, "{list}");
    assert!(
        lines[1].contains("acme") && lines[1].contains("never") && lines[1].ends_with("valid"),
        "{list}"
    );
    assert!(lines[2].contains("globex") && !lines[2].contains("never"), "{list}");
    assert!(!list.contains("pr_"), "no token is shown again");

    let id = lines[1].split_whitespace().next().expect("an id");
    program.run(&["token", "revoke", id]).await.ok();
    let list = program.run(&["token", "list", "--organization", "acme"]).await.ok();
    assert_eq!(list.lines().count(), 2, "{list}");
    assert!(list.trim_end().ends_with("revoked"), "{list}");

    let line = program.run(&["token", "revoke", id]).await.failed(1);
    assert!(line.contains("token not found"), "{line}");
    let line = program
        .run(&["token", "list", "--organization", "nobody"])
        .await
        .failed(1);
    assert!(line.contains("nobody"), "{line}");
});

both!(a_token_has_a_name_a_role_and_an_end, async |db| {
    let program = Program::on(db.url());
    let create = ["token", "create", "--organization", "acme"];
    let run = async |more: &[&str]| program.run(&[&create[..], more].concat()).await;
    for more in [
        &[][..],
        &[
            "--name",
            "CI of the shop",
            "--role",
            "viewer",
            "--expires",
            "2099-01-31T00:00:00Z",
        ],
    ] {
        assert_eq!(run(more).await.ok().lines().count(), 1, "the token alone");
    }
    let list = program.run(&["token", "list"]).await.ok();
    let lines: Vec<_> = list.lines().map(|line| line.split("  ").collect::<Vec<_>>()).collect();
    let cells = |at: usize| {
        let cells = lines[at].iter().map(|cell| cell.trim()).filter(|cell| !cell.is_empty());
        cells.collect::<Vec<_>>()
    };
    assert_eq!(cells(0)[3..], ["name", "role", "made", "ends", "used", "state"]);
    let (plain, named) = (cells(1), cells(2));
    assert_eq!(
        (plain[3], plain[4], &plain[6..]),
        ("-", "admin", &["never", "-", "valid"][..])
    );
    assert_eq!(
        (named[3], named[4], &named[6..]),
        (
            "CI of the shop",
            "viewer",
            &["2099-01-31T00:00:00.000000Z", "-", "valid"][..]
        )
    );
    for wrong in [
        &["--role", "owner"][..],
        &["--name", " "],
        &["--expires", "soon"],
        &["--expires", "2099-01-31T00:00:00Z", "--expires-in", "7"],
        &["--role", "viewer", "--application", "shop"],
    ] {
        run(wrong).await.failed(2);
    }
    let past = run(&["--expires", "2020-01-31T00:00:00Z"]).await.failed(1);
    assert!(past.contains("--expires must be in the future"), "{past}");
});

both!(tokens_of_many_organizations_and_pages_are_all_listed, async |db| {
    let connection = db.connect().await;
    let each = "with recursive n(n) as (select 1 union all select n + 1 from n where n < 1001)";
    for sql in [
        "insert into organization (id, name, created_at) select 'org_' || n, 'of ' || n, 0 from n",
        "insert into api_token (id, org_id, hash, created_at) select 'tok_one_' || n, 'org_' || n, 'one ' || n, 0 from n",
        "insert into api_token (id, org_id, hash, created_at) select 'tok_two_' || n, 'org_7', 'two ' || n, 0 from n",
    ] {
        rows(&connection, &format!("{each} {sql}")).await;
    }
    let program = Program::on(db.url());
    let list = program.run(&["token", "list"]).await.ok();
    let ids: BTreeSet<&str> = list.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(list.lines().count(), 2003, "the heading once, each token once");
    assert_eq!(ids.len(), 2003);
    let list = program.run(&["token", "list", "--organization", "of 7"]).await.ok();
    assert_eq!(list.lines().count(), 1003);
});

both!(a_token_for_an_unknown_application_is_refused, async |db| {
    let program = Program::on(db.url());
    let arguments = ["token", "create", "--organization", "acme", "--application", "shop"];
    let line = program.run(&arguments).await.failed(1);
    assert!(line.contains("application not found"), "{line}");
});

#[tokio::test]
async fn a_command_on_a_missing_sqlite_file_says_what_to_do_and_makes_none() {
    let program = Program::bare();
    let line = program
        .run(&["token", "create", "--organization", "acme"])
        .await
        .failed(1);
    assert!(line.contains("app serve") && line.contains("app migrate"), "{line}");
    assert!(!program.folder().join("data").exists());
}

#[tokio::test]
async fn secrets_writes_what_is_missing_and_never_changes_what_is_there() {
    let program = Program::bare();
    let written = program.run(&["secrets", "made"]).await.ok();
    assert_eq!(written.matches(": written").count(), 2, "{written}");
    let folder = program.folder().join("made");
    let password = std::fs::read_to_string(folder.join("database/password")).expect("a password");
    let key = std::fs::read_to_string(folder.join("app/encryption_key")).expect("a key");
    assert!(password.len() >= 32 && key.len() >= 32 && password != key);
    let mode = std::fs::metadata(folder.join("database/password"))
        .expect("the file has a state")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o444);
    let mode = std::fs::metadata(&folder)
        .expect("the file has a state")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700, "no other user can reach the secrets");

    std::fs::remove_file(folder.join("database/password")).expect("the file can be removed");
    program.run(&["secrets", "made"]).await.ok();
    let other = std::fs::read_to_string(folder.join("database/password")).expect("a password");
    assert_ne!(other, password);
    assert_eq!(
        std::fs::read_to_string(folder.join("app/encryption_key")).expect("a key"),
        key
    );
    let left = std::fs::read_dir(folder.join("app")).expect("a folder").count();
    assert_eq!(left, 1, "no draft is left behind");
}

#[tokio::test]
async fn secrets_leaves_a_folder_that_is_there_as_it_is() {
    let program = Program::bare();
    for (folder, mode) in [("there", 0o755), ("there/database", 0o750), ("there/app", 0o711)] {
        let folder = program.folder().join(folder);
        std::fs::create_dir(&folder).expect("the folder is made");
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).expect("the mode is set");
    }
    program.run(&["secrets", "there"]).await.ok();
    program.run(&["secrets", "there"]).await.ok();
    for (folder, mode) in [("there", 0o755), ("there/database", 0o750), ("there/app", 0o711)] {
        let state = std::fs::metadata(program.folder().join(folder)).expect("the file has a state");
        assert_eq!(state.permissions().mode() & 0o777, mode, "{folder}");
    }
}

#[tokio::test]
async fn secrets_makes_its_folder_below_others_that_are_missing() {
    let program = Program::bare();
    program.run(&["secrets", "not/yet/there/"]).await.ok();
    let state = std::fs::metadata(program.folder().join("not/yet/there")).expect("the file has a state");
    assert_eq!(state.permissions().mode() & 0o777, 0o700);
}

#[tokio::test]
async fn secrets_puts_a_new_encryption_key_above_the_former_one_and_drops_that() {
    let program = Program::bare();
    let key = program.folder().join("made/app/encryption_key");
    let read = || std::fs::read_to_string(&key).expect("a key");
    let new = ["secrets", "made", "--new-encryption-key"];
    let drop = ["secrets", "made", "--drop-former-key"];
    let line = program.run(&new).await.failed(1);
    assert!(line.contains("made/app/encryption_key"), "there is no key yet: {line}");
    program.run(&["secrets", "made"]).await.ok();
    let former = read();
    let said = program.run(&drop).await.ok();
    assert!(said.contains("kept") && read() == former, "{said}");

    program.run(&new).await.ok();
    let both = read();
    let (made, below) = both.split_once('\n').expect("two lines");
    assert!(below == former && made != former && made.len() >= 32);
    let line = program.run(&new).await.failed(1);
    assert!(line.contains("a rotation is under way") && read() == both, "{line}");
    program.run(&["secrets", "made"]).await.ok();
    assert_eq!(read(), both, "without an option both keys are kept");
    program.run(&drop).await.ok();
    assert_eq!(read(), made);
    let mode = std::fs::metadata(&key)
        .expect("the file has a state")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o444);
    let left = std::fs::read_dir(key.parent().expect("a folder"))
        .expect("a folder")
        .count();
    assert_eq!(left, 1, "no draft is left behind");
    program.run(&[&new[..], &drop[2..]].concat()).await.failed(2);
}

#[tokio::test]
async fn secrets_written_by_many_at_once_are_whole_and_the_same_for_all() {
    let program = Program::bare();
    let commands: Vec<_> = (0..8).map(|_| program.start(&["secrets", "made"])).collect();
    let mut written = 0;
    for command in commands {
        let output = command.wait_with_output().expect("the command has output");
        assert!(output.status.success());
        written += String::from_utf8_lossy(&output.stdout).matches(": written").count();
    }
    assert_eq!(written, 2, "each file is written once");
}

both!(options_of_every_command_are_variables_too, async |db| {
    let program = Program::on(db.url())
        .env("POSTRIDER_TOKEN_ORGANIZATION", "acme")
        .env("POSTRIDER_TOKEN_EXPIRES_IN", "7")
        .env("POSTRIDER_TOKEN_APPLICATION", "");
    program.run(&["token", "create"]).await.ok();
    program.run(&["token", "create", "--organization", "globex"]).await.ok();
    let list = program.run(&["token", "list"]).await.ok();
    assert!(list.contains("acme") && !list.contains("globex"), "{list}");
    assert!(!list.contains("never"), "{list}");
    let nonsense = program.env("POSTRIDER_TOKEN_EXPIRES_IN", "soon");
    let line = nonsense.run(&["token", "create"]).await.failed(2);
    assert!(line.contains("setting POSTRIDER_TOKEN_EXPIRES_IN"), "{line}");
});

#[tokio::test]
async fn an_error_names_the_variable_of_its_own_command_or_none() {
    let program = Program::bare();
    let line = program.run(&["why", "m", "--organization"]).await.failed(2);
    assert!(line.contains("(setting POSTRIDER_ORGANIZATION)"), "{line}");
    let line = program.run(&["token", "create", "--organization"]).await.failed(2);
    assert!(line.contains("(setting POSTRIDER_TOKEN_ORGANIZATION)"), "{line}");
    let line = program.run(&["healthcheck", "--failing"]).await.failed(2);
    assert!(
        line.contains("unexpected argument") && !line.contains("setting"),
        "{line}"
    );
}

#[tokio::test]
async fn openapi_prints_the_document() {
    let json = Program::bare().run(&["openapi"]).await.ok();
    assert_eq!(json, postrider::api::document());
}
