//! Compresses the files of the pages, so that the program holds them as they are sent: console and portal of
//! `src/api/ui/`, and Swagger UI of the crate `utoipa-swagger-ui-vendored`. Writes them to `OUT_DIR`, with `pages.rs`,
//! the table of them that `src/api/http/files.rs` includes.
//!
//! Must need nothing but cargo and the crates of Cargo.lock: no network, no other program.

use std::fmt::Write as _;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use utoipa_swagger_ui_vendored::SWAGGER_UI_VENDORED;

const PAGES: &str = "src/api/ui";
/// What stands for the hash of all files in the text of a page.
const PLACEHOLDER: &str = "HASH";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={PAGES}");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let files = read_pages();
    let hash = hash_of(&files);
    let mut table = Table::new(&out);
    table.begin("PAGES");
    for (path, text) in files.iter().filter(|(path, _)| path.ends_with(".html")) {
        let text = String::from_utf8_lossy(text).replace(PLACEHOLDER, &hash);
        table.compress(path, text.as_bytes());
    }
    table.begin("PARTS");
    for (path, text) in files.iter().filter(|(path, _)| !path.ends_with(".html")) {
        table.compress(path, text);
    }
    table.begin("SWAGGER_UI");
    for name in ["swagger-ui.css", "swagger-ui-bundle.js"] {
        table.repack(name, &Zipped::find(SWAGGER_UI_VENDORED, &format!("/dist/{name}")));
    }
    table.finish(&hash);
}

/// Returns the files below the folder of the pages by their paths within it, in order of the paths. Leaves out what is
/// for the authors of the pages alone.
fn read_pages() -> Vec<(String, Vec<u8>)> {
    let (mut files, mut folders) = (Vec::new(), vec![PathBuf::from(PAGES)]);
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).unwrap_or_else(|err| panic!("{}: {err}", folder.display()));
        for entry in entries {
            let path = entry.expect("a folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if !["json", "md", "ts"].contains(&extension(&path)) {
                let name = path.strip_prefix(PAGES).expect("it is within").to_str().expect("UTF-8");
                files.push((name.to_owned(), fs::read(&path).expect("a file can be read")));
            }
        }
    }
    files.sort();
    files
}

fn extension(path: &Path) -> &str {
    path.extension().and_then(|text| text.to_str()).unwrap_or_default()
}

fn media_type(path: &str) -> &'static str {
    match extension(Path::new(path)) {
        "css" => "text/css",
        "html" => "text/html; charset=utf-8",
        "js" => "text/javascript",
        "png" => "image/png",
        "svg" => "image/svg+xml",
        other => panic!("{path}: build.rs knows no media type for .{other}"),
    }
}

/// Returns 16 hex digits that change with each of the files. They only tell versions of files apart that we write
/// ourselves, so the standard library's hash is good enough, and the build needs no other one.
fn hash_of(content: &impl Hash) -> String {
    let mut hasher = DefaultHasher::new();
    content.hash(&mut hasher);
    format!("{:016x}", hasher.finish())
}

/// The text of `pages.rs` as far as it is written.
struct Table<'o> {
    out: &'o Path,
    text: String,
    files: usize,
}

impl<'o> Table<'o> {
    fn new(out: &'o Path) -> Self {
        Self {
            out,
            text: String::new(),
            files: 0,
        }
    }

    /// Begins a list of files.
    fn begin(&mut self, list: &str) {
        let end = if self.text.is_empty() { "" } else { "];\n" };
        writeln!(self.text, "{end}pub(super) static {list}: &[Packed] = &[").expect("a String takes all");
    }

    fn compress(&mut self, path: &str, content: &[u8]) {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).expect("a Vec takes all");
        let gzip = encoder.finish().expect("a Vec takes all");
        self.add(path, &gzip, content.len(), &hash_of(&content));
    }

    /// Adds a file of a zip archive without compressing it again: both formats are frames around the same stream.
    fn repack(&mut self, path: &str, file: &Zipped) {
        let mut gzip = b"\x1f\x8b\x08\0\0\0\0\0\x02\xff".to_vec();
        gzip.extend_from_slice(file.deflated);
        gzip.extend_from_slice(&file.crc.to_le_bytes());
        gzip.extend_from_slice(&file.length.to_le_bytes());
        self.add(path, &gzip, file.length as usize, &hash_of(&file.deflated));
    }

    fn add(&mut self, path: &str, gzip: &[u8], length: usize, tag: &str) {
        let name = format!("page-{}.gz", self.files);
        self.files += 1;
        fs::write(self.out.join(&name), gzip).expect("OUT_DIR can be written");
        let media_type = media_type(path);
        writeln!(
            self.text,
            "Packed {{ path: {path:?}, media_type: {media_type:?}, length: {length}, tag: {tag:?}, \
             gzip: include_bytes!(concat!(env!(\"OUT_DIR\"), \"/{name}\")) }},"
        )
        .expect("a String takes all");
    }

    fn finish(mut self, hash: &str) {
        writeln!(self.text, "];\npub(super) const HASH: &str = {hash:?};").expect("a String takes all");
        fs::write(self.out.join("pages.rs"), self.text).expect("OUT_DIR can be written");
    }
}

/// A file of a zip archive, compressed.
struct Zipped<'z> {
    deflated: &'z [u8],
    crc: u32,
    length: u32,
}

impl<'z> Zipped<'z> {
    /// Finds the file whose path in the archive ends with `path` (APPNOTE.TXT of PKWARE, 4.3.12 and 4.3.7). Only what
    /// GitHub's archives have: fewer than 65,536 files of less than 4 GB.
    fn find(zip: &'z [u8], path: &str) -> Self {
        let short = |at: usize| usize::from(u16::from_le_bytes([zip[at], zip[at + 1]]));
        let long = |at: usize| u32::from_le_bytes([zip[at], zip[at + 1], zip[at + 2], zip[at + 3]]);
        let end = zip
            .windows(4)
            .rposition(|mark| mark == b"PK\x05\x06")
            .expect("the end of a zip archive");
        let mut entry = long(end + 16) as usize;
        for _ in 0..short(end + 10) {
            let (name, extra, comment) = (short(entry + 28), short(entry + 30), short(entry + 32));
            if zip[entry + 46..entry + 46 + name].ends_with(path.as_bytes()) {
                assert_eq!(short(entry + 10), 8, "{path} is not deflated");
                let local = long(entry + 42) as usize;
                let start = local + 30 + short(local + 26) + short(local + 28);
                return Self {
                    deflated: &zip[start..start + long(entry + 20) as usize],
                    crc: long(entry + 16),
                    length: long(entry + 24),
                };
            }
            entry += 46 + name + extra + comment;
        }
        panic!("Swagger UI has no {path}")
    }
}
