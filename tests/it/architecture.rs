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
fn no_file_imports_through_others_a_file_that_imports_it() {
    let files = Modules::read();
    let circles = files.circles();
    assert!(circles.is_empty(), "circles of imports:\n{}", circles.join("\n"));
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

/// The modules of the crate, a file each, by their paths without `crate::`; the crate's root is the empty path.
struct Modules(BTreeMap<String, Module>);

struct Module {
    path: PathBuf,
    /// The code without comments, tests and re-exports.
    code: String,
    /// What the module exports of others: the name, and the path that it stands for.
    exports: BTreeMap<String, String>,
}

impl Modules {
    fn read() -> Self {
        let mut modules = BTreeMap::new();
        for file in sources() {
            let inside = file.path.strip_prefix("src").unwrap_or(&file.path).with_extension("");
            let mut parts: Vec<_> = inside.iter().filter_map(|part| part.to_str()).collect();
            if parts == ["main"] {
                continue;
            }
            if ["mod", "lib"].contains(&parts[parts.len() - 1]) {
                parts.pop();
            }
            modules.insert(parts.join("::"), Module::new(file, &parts.join("::")));
        }
        Self(modules)
    }

    /// Returns the module that defines what `path` names, whoever exports it.
    fn defines(&self, path: &str) -> String {
        let parts: Vec<_> = path.split("::").collect();
        let modules = (0..=parts.len()).rev().map(|count| parts[..count].join("::"));
        let module = modules
            .into_iter()
            .find(|module| self.0.contains_key(module))
            .unwrap_or_default();
        let rest = path[module.len()..].trim_start_matches("::");
        let (name, rest) = rest.split_once("::").unwrap_or((rest, ""));
        let target = self.0[&module].exports.get(name);
        let target = target.map(|target| format!("{target}::{rest}").trim_end_matches("::").to_owned());
        match target {
            // A macro is exported under its own name.
            Some(target) if target != path => self.defines(&target),
            _ => module,
        }
    }

    /// Returns the modules that the code of `module` names.
    fn imports(&self, module: &str) -> BTreeSet<String> {
        let code = &self.0[module].code;
        let mut paths = paths_from(code, module);
        let prefix = if module.is_empty() {
            String::new()
        } else {
            format!("{module}::")
        };
        let children = self.0.keys().filter_map(|child| child.strip_prefix(&prefix));
        for child in children.filter(|child| !child.is_empty() && !child.contains("::")) {
            let named = paths_after(code, &format!("{child}::"))
                .into_iter()
                .flat_map(|(_, paths)| paths);
            paths.extend(named.map(|path| format!("{prefix}{child}::{path}")));
        }
        let found = paths.iter().map(|path| self.defines(path));
        found.filter(|found| found != module && !found.is_empty()).collect()
    }

    /// Returns each circle of files as one line.
    fn circles(&self) -> Vec<String> {
        let imports: BTreeMap<&str, BTreeSet<String>> = self
            .0
            .keys()
            .map(|module| (module.as_str(), self.imports(module)))
            .collect();
        let mut left: BTreeSet<&str> = imports.keys().copied().collect();
        // A module that imports nothing of what is left, or that nothing left imports, is in no circle.
        loop {
            let is_in_none = |module: &&str| {
                let imports_some = imports[*module].iter().any(|import| left.contains(import.as_str()));
                let is_imported = left.iter().any(|other| imports[other].contains(*module));
                !imports_some || !is_imported
            };
            let Some(module) = left.iter().copied().find(|module| is_in_none(module)) else {
                break;
            };
            left.remove(module);
        }
        let line = |module: &&str| {
            let named = imports[*module].iter().filter(|import| left.contains(import.as_str()));
            let named: Vec<_> = named.map(|import| self.0[import].path.display().to_string()).collect();
            format!("{} imports {}", self.0[*module].path.display(), named.join(", "))
        };
        left.iter().map(line).collect()
    }
}

impl Module {
    fn new(file: Source, module: &str) -> Self {
        let code = without_comments(&file.text);
        let code = code.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let mut exports = BTreeMap::new();
        let mut own = String::new();
        for statement in code.split_inclusive(';') {
            let Some(at) = re_export(statement) else {
                own += statement;
                continue;
            };
            own += &statement[..at];
            let (_, text) = statement[at..].split_once("use ").unwrap_or_default();
            let mut paths = Vec::new();
            unfold(text, "", &mut paths);
            for path in paths {
                let path = absolute(&path, module).unwrap_or_else(|| format!("{module}::{path}"));
                let path = path.trim_end_matches("::self").to_owned();
                let name = path.rsplit("::").next().unwrap_or_default().to_owned();
                exports.insert(name, path);
            }
        }
        Self {
            path: file.path,
            code: own,
            exports,
        }
    }
}

/// Returns where a statement begins that exports something of another module.
fn re_export(statement: &str) -> Option<usize> {
    let mut at = 0;
    for line in statement.split_inclusive('\n') {
        if line.starts_with("pub use ") || line.starts_with("pub(") && line.contains(") use ") {
            return Some(at);
        }
        at += line.len();
    }
    None
}

/// Returns every path in the code that begins with `crate`, `self` or `super`, from the crate's root.
fn paths_from(code: &str, module: &str) -> Vec<String> {
    let mut found = Vec::new();
    for start in ["crate::", "self::", "super::"] {
        for (_, paths) in paths_after(code, start) {
            found.extend(
                paths
                    .iter()
                    .filter_map(|path| absolute(&format!("{start}{path}"), module)),
            );
        }
    }
    found
}

/// Resolves a path that is written in `module`; `None` if it does not begin at the crate's root, the module or its parents.
fn absolute(path: &str, module: &str) -> Option<String> {
    if let Some(rest) = path.strip_prefix("crate::") {
        return Some(rest.to_owned());
    }
    let mut parents: Vec<_> = module.split("::").filter(|part| !part.is_empty()).collect();
    let mut rest = path.strip_prefix("self::").unwrap_or(path);
    let is_relative = rest.len() < path.len() || rest.starts_with("super::");
    while let Some(shorter) = rest.strip_prefix("super::") {
        parents.pop();
        rest = shorter;
    }
    parents.push(rest);
    is_relative.then(|| parents.join("::"))
}

#[test]
fn a_circle_is_found_through_what_a_module_exports() {
    let module = |path: &str, text: &str| {
        let file = Source {
            path: path.into(),
            text: text.to_owned(),
        };
        let name = path.trim_end_matches(".rs").trim_end_matches("/mod").replace('/', "::");
        (name.clone(), Module::new(file, &name))
    };
    let files = [
        ("lib.rs", ""),
        ("a/mod.rs", "mod b;\nmod c;\npub use self::b::{B, Other};\n"),
        ("a/b.rs", "use super::c;\npub struct B;\n"),
        ("a/c.rs", "use crate::a::B;\n"),
        (
            "d.rs",
            "use crate::a::B;\n#[cfg(test)]\nmod tests {\n    use crate::e;\n}\n",
        ),
        ("e.rs", "use crate::d;\n"),
    ];
    let files = files.into_iter().map(|(path, text)| match module(path, text) {
        (name, module) if name == "lib" => (String::new(), module),
        named => named,
    });
    let circles = Modules(files.collect()).circles();
    assert_eq!(circles, ["a/b.rs imports a/c.rs", "a/c.rs imports a/b.rs"]);
}
