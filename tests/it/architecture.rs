//! Checks the sources against ARCHITECTURE.md: the table of imports and the list of long files. Also checks that each
//! file begins with a header.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

const LONGEST: usize = 400;
/// The modules that every module may import.
const SHARED: [&str; 6] = ["error", "clock", "config", "crash_point", "loops", "telemetry"];
/// Crates that a column of another name covers.
const STANDS_FOR: [(&str, &str); 3] = [("sqlx", "sea_orm"), ("migration", "sea_orm"), ("poem_openapi", "poem")];
/// The imports that "derive only" allows: derives, and the traits and attributes that they need.
const DERIVES: [&str; 10] = [
    "ActiveEnum",
    "DeriveActiveEnum",
    "DeriveValueType",
    "EnumIter",
    "Iterable",
    "Enum",
    "NewType",
    "Object",
    "Union",
    "FromJsonQueryResult",
];

#[test]
fn the_sources_import_only_what_the_table_allows() {
    let table = import_table();
    let mut wrong = Vec::new();
    for file in sources() {
        let Some(module) = module_of(&file.path) else { continue };
        let Some(allowed) = table.get(&module) else {
            wrong.push(format!(
                "{}: the module {module} is not in the table",
                file.path.display()
            ));
            continue;
        };
        for import in imports(&file) {
            let column = STANDS_FOR
                .iter()
                .find(|(name, _)| *name == import.from)
                .map_or(import.from.as_str(), |(_, column)| column);
            let own = column == module || SHARED.contains(&column);
            // Not a module and not a crate of the table, for example `super` in an inline module.
            let unknown = !allowed.contains_key(column) && !table.contains_key(column);
            if own || unknown {
                continue;
            }
            match allowed.get(column).map(String::as_str) {
                Some("yes" | "connect only" | "serve only" | "-") => {}
                Some("derive only") if DERIVES.contains(&import.what.as_str()) || import.what.is_empty() => {}
                Some("reads only") if !import.writes() => {}
                _ => wrong.push(format!(
                    "{}:{}: {} may not import {}::{}",
                    file.path.display(),
                    import.line,
                    module,
                    import.from,
                    import.what
                )),
            }
        }
    }
    assert!(wrong.is_empty(), "ARCHITECTURE.md forbids:\n{}", wrong.join("\n"));
}

#[test]
fn what_may_only_read_begins_no_transaction() {
    let table = import_table();
    for file in sources() {
        let cells = module_of(&file.path).and_then(|module| table.get(&module));
        if cells.is_some_and(|cells| cells["store"] == "reads only") {
            let code = without_comments(&file.text);
            assert!(
                !code.contains(".begin()"),
                "{} begins a transaction",
                file.path.display()
            );
        }
    }
}

#[test]
fn the_table_names_every_module_and_no_other() {
    let table = import_table();
    let entries = std::fs::read_dir(root().join("src")).expect("src can be read");
    let modules: BTreeSet<String> = entries.flatten().filter_map(|entry| module_of(&entry.path())).collect();
    let named: BTreeSet<String> = table.into_keys().collect();
    let missing: Vec<_> = modules.difference(&named).collect();
    assert!(missing.is_empty(), "not in ARCHITECTURE.md's table: {missing:?}");
}

#[test]
fn files_of_more_than_400_lines_are_listed_with_a_reason() {
    let text = architecture();
    let section = text
        .split("## Long files")
        .nth(1)
        .expect("ARCHITECTURE.md has a section Long files");
    let section = section.split("\n## ").next().unwrap_or_default();
    let listed: BTreeMap<String, String> = rows_of(section)
        .into_iter()
        .map(|cells| (cells[0].trim_matches('`').to_owned(), cells[1].clone()))
        .collect();
    let mut long = BTreeSet::new();
    for file in sources() {
        let own = file
            .text
            .split("\n#[cfg(test)]\nmod tests {")
            .next()
            .unwrap_or_default()
            .lines()
            .count();
        if own > LONGEST {
            long.insert(file.path.to_string_lossy().into_owned());
        }
    }
    let named: BTreeSet<String> = listed.keys().cloned().collect();
    assert_eq!(
        long, named,
        "left: files over {LONGEST} lines, right: the files that ARCHITECTURE.md lists"
    );
    assert!(
        listed.values().all(|reason| reason.len() > 10),
        "each listed file has a reason"
    );
}

#[test]
fn every_file_says_what_it_is_responsible_for() {
    for file in sources().iter().filter(|file| file.text.lines().count() > 3) {
        assert!(
            file.text.starts_with("//! "),
            "{} opens without //!",
            file.path.display()
        );
    }
}

struct Source {
    /// The path, relative to the repository's root.
    path: PathBuf,
    text: String,
}

struct Import {
    line: usize,
    /// A top-level module of this crate, or another crate.
    from: String,
    /// The rest of the path, as far as it is written there.
    what: String,
}

impl Import {
    fn writes(&self) -> bool {
        let verbs = ["insert", "update", "delete"];
        self.what
            .split("::")
            .any(|part| verbs.iter().any(|verb| part.starts_with(verb)) || ["Tx", "begin"].contains(&part))
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn architecture() -> String {
    std::fs::read_to_string(root().join("ARCHITECTURE.md")).expect("ARCHITECTURE.md can be read")
}

/// Returns the table of imports: module -> column -> cell.
fn import_table() -> BTreeMap<String, BTreeMap<String, String>> {
    let text = architecture();
    let section = text
        .split("## Who may import whom")
        .nth(1)
        .expect("ARCHITECTURE.md has the import table");
    let rows = table_of(section.split("\n## ").next().unwrap_or_default());
    let columns = rows[0].clone();
    let mut table = BTreeMap::new();
    for row in &rows[1..] {
        assert_eq!(
            row.len(),
            columns.len(),
            "a row of the import table has all cells: {row:?}"
        );
        let cells: BTreeMap<String, String> = columns.iter().cloned().zip(row.iter().cloned()).skip(1).collect();
        for module in row[0].split(',') {
            table.insert(module.trim().to_owned(), cells.clone());
        }
    }
    assert!(table.len() > 5, "the import table has rows");
    table
}

fn table_of(section: &str) -> Vec<Vec<String>> {
    let lines = section
        .lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("|-"));
    lines
        .map(|line| {
            line.trim_matches('|')
                .split('|')
                .map(|cell| cell.trim().to_owned())
                .collect()
        })
        .collect()
}

/// Returns the rows of a table without its heading.
fn rows_of(section: &str) -> Vec<Vec<String>> {
    table_of(section).into_iter().skip(1).collect()
}

fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root().join("src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)
            .expect("a folder under src can be read")
            .flatten()
        {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source can be read");
                let path = path
                    .strip_prefix(root())
                    .expect("a source is below the root")
                    .to_owned();
                found.push(Source { path, text });
            }
        }
    }
    assert!(found.len() > 10, "src has sources");
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Returns the top-level module of a file; `None` for main.rs and lib.rs.
fn module_of(path: &Path) -> Option<String> {
    let inside = path.strip_prefix(root()).unwrap_or(path).strip_prefix("src").ok()?;
    let first = inside.iter().next()?.to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (!["main", "lib"].contains(&name)).then(|| name.to_owned())
}

/// Returns every path in the code that begins at the crate's root or in a crate of the table, with groups unfolded.
fn imports(file: &Source) -> Vec<Import> {
    let code = without_comments(&file.text);
    let mut found = Vec::new();
    for crate_name in ["sea_orm", "sqlx", "migration", "poem", "poem_openapi"] {
        for (line, paths) in paths_after(&code, &format!("{crate_name}::")) {
            found.extend(paths.into_iter().map(|what| Import {
                line,
                from: crate_name.to_owned(),
                what,
            }));
        }
    }
    let depth = depth_of(&file.path);
    for start in ["crate::".to_owned(), "postrider::".to_owned(), "super::".repeat(depth)] {
        for (line, paths) in paths_after(&code, &start) {
            for path in paths {
                let (from, what) = path.split_once("::").unwrap_or((&path, ""));
                found.push(Import {
                    line,
                    from: from.to_owned(),
                    what: what.to_owned(),
                });
            }
        }
    }
    found
}

/// Returns how many `super` lead from a file to the crate's root.
fn depth_of(path: &Path) -> usize {
    let in_folder = path.file_stem().is_some_and(|stem| stem == "mod");
    path.iter().count() - 1 - usize::from(in_folder)
}

fn without_comments(text: &str) -> String {
    let lines = text
        .lines()
        .map(|line| if line.trim_start().starts_with("//") { "" } else { line });
    lines.collect::<Vec<_>>().join("\n")
}

/// Returns the paths that follow `start`, each with its line number.
fn paths_after(code: &str, start: &str) -> Vec<(usize, Vec<String>)> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(start) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == ':') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let mut paths = Vec::new();
        unfold(&code[at + start.len()..], "", &mut paths);
        found.push((line, paths));
    }
    found
}

/// Reads one path, or one `{group}` of paths, and returns the text behind it.
fn unfold<'a>(text: &'a str, prefix: &str, into: &mut Vec<String>) -> &'a str {
    let text = text.trim_start();
    if let Some(mut rest) = text.strip_prefix('{') {
        loop {
            rest = rest.trim_start_matches([',', ' ', '\n']);
            if let Some(rest) = rest.strip_prefix('}') {
                return rest;
            }
            let before = rest.len();
            rest = unfold(rest, prefix, into);
            if rest.len() == before {
                return rest;
            }
        }
    }
    let length = text
        .find(|letter: char| !letter.is_alphanumeric() && letter != '_')
        .unwrap_or(text.len());
    let (name, rest) = text.split_at(length);
    let path = format!("{prefix}{name}");
    match rest.strip_prefix("::") {
        Some(rest) if !rest.starts_with('<') => unfold(rest, &format!("{path}::"), into),
        _ => {
            into.push(path);
            skip_alias(rest)
        }
    }
}

fn skip_alias(rest: &str) -> &str {
    match rest.trim_start().strip_prefix("as ") {
        Some(alias) => alias
            .trim_start()
            .trim_start_matches(|letter: char| letter.is_alphanumeric() || letter == '_'),
        None => rest,
    }
}

#[test]
fn groups_and_aliases_of_imports_are_read() {
    let code = "use crate::{store::{Tx, message as rows, endpoint::find_one}, domain};\nlet x = crate::api::y::<u8>();";
    let paths: Vec<String> = paths_after(code, "crate::")
        .into_iter()
        .flat_map(|(_, paths)| paths)
        .collect();
    assert_eq!(
        paths,
        [
            "store::Tx",
            "store::message",
            "store::endpoint::find_one",
            "domain",
            "api::y"
        ]
    );
}
