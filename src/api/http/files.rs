//! A file that is the same for all callers: it is held compressed, and sent as it is or unpacked on the way.
//!
//! build.rs makes the files of the pages; those that depend on the API's operations are compressed at their first use.
//! Must not know which paths the files have.

use std::io::{self, Read, Write};

use bytes::Bytes;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use futures_util::stream;
use poem::http::{HeaderName, HeaderValue, StatusCode, header};
use poem::{Body, Request, Response};
use ring::digest;

/// How many bytes of a file are unpacked at once, for a client that does not accept gzip. With the decoder's own 40 kB
/// that is what such a client takes in memory, however slowly it reads.
const CHUNK: usize = 32 << 10;

/// A compressed file.
pub(super) struct Packed {
    /// The path within its folder.
    pub path: &'static str,
    media_type: &'static str,
    gzip: &'static [u8],
    /// The length of the file when it is unpacked.
    length: usize,
    /// A hash of the file, as hex digits.
    tag: &'static str,
}

// HASH, PAGES, PARTS and SWAGGER_UI.
include!(concat!(env!("OUT_DIR"), "/pages.rs"));

/// What a browser may do with a file.
pub(super) struct Rules {
    /// The content security policy.
    pub policy: HeaderValue,
    /// The value of `cache-control`.
    pub caching: HeaderValue,
}

impl Packed {
    /// Compresses a text. It is kept until the process ends.
    pub fn new(path: &'static str, media_type: &'static str, text: &str) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let written = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish());
        let hash = digest::digest(&digest::SHA256, text.as_bytes());
        let hex = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}"));
        Self {
            path,
            media_type,
            gzip: written.expect("a Vec takes all").leak(),
            length: text.len(),
            tag: hex.collect::<String>().leak(),
        }
    }

    /// Returns the file of a list with this path.
    pub fn find(files: &'static [Self], path: &str) -> Option<&'static Self> {
        files.iter().find(|file| file.path == path)
    }

    /// Returns the response to a request for this file: 304 if the client has it, compressed if the client accepts
    /// gzip.
    pub fn answer(&'static self, request: &Request, rules: &Rules) -> Response {
        // A weak tag, because one tag stands for both encodings.
        let tag = format!("W/\"{}\"", self.tag);
        let answer = Response::builder()
            .header(header::ETAG, &tag)
            .header(header::CACHE_CONTROL, &rules.caching)
            .header(header::VARY, "accept-encoding")
            .header(header::CONTENT_SECURITY_POLICY, &rules.policy)
            .header(header::REFERRER_POLICY, "no-referrer");
        if values(request, &header::IF_NONE_MATCH).any(|known| known == tag || known == "*") {
            return answer.status(StatusCode::NOT_MODIFIED).finish();
        }
        let answer = answer.content_type(self.media_type);
        match values(request, &header::ACCEPT_ENCODING).any(|coding| coding == "gzip") {
            true => answer.header(header::CONTENT_ENCODING, "gzip").body(self.gzip),
            false => answer.header(header::CONTENT_LENGTH, self.length).body(self.unpacked()),
        }
    }

    /// Returns the file unpacked, chunk by chunk as the client takes them.
    fn unpacked(&self) -> Body {
        let mut decoder = GzDecoder::new(self.gzip);
        let chunks = std::iter::from_fn(move || read_chunk(&mut decoder).transpose());
        Body::from_bytes_stream(stream::iter(chunks))
    }
}

/// Returns the next bytes; `None` at the end.
fn read_chunk(reader: &mut impl Read) -> io::Result<Option<Bytes>> {
    let mut chunk = vec![0; CHUNK];
    let read = reader.read(&mut chunk)?;
    chunk.truncate(read);
    Ok((read > 0).then(|| chunk.into()))
}

/// Returns the comma-separated values of a header without their weights, and without those whose weight is 0.
fn values<'r>(request: &'r Request, name: &HeaderName) -> impl Iterator<Item = &'r str> {
    let headers = request.headers().get_all(name).into_iter();
    let lists = headers.filter_map(|value| value.to_str().ok());
    let each = lists.flat_map(|list| list.split(',')).map(str::trim);
    each.filter_map(|value| match value.split_once(';') {
        Some((_, weight)) if weight.trim().strip_prefix("q=").and_then(|q| q.parse().ok()) == Some(0.0) => None,
        Some((value, _)) => Some(value.trim()),
        None => Some(value),
    })
}
