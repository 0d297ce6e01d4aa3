//! Reads the `idempotency-key` header of a POST, and hashes the key and the body for comparison with a repetition.
//!
//! Must not claim a key: the service and the intake do, in the transaction of the effect.

use poem::http::uri::PathAndQuery;
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaParamIn, MetaSchemaRef};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};
use ring::digest;

use crate::api::caller::Caller;
use crate::store::idempotency::Key;

const HEADER: &str = "idempotency-key";

/// The idempotency key of a request: the SHA-256, in hex, of the path with its query, a line feed and the header.
/// `None` means that the header is absent or empty.
pub struct IdempotencyKey(Option<String>);

impl IdempotencyKey {
    /// Returns the key under which the caller's reply is stored. `body_hash` is the result of [`hash_body`]; `None`
    /// means that a repetition is recognized by comparing what it would store with what is stored.
    pub fn of(self, caller: &Caller, body_hash: Option<String>) -> Option<Key> {
        self.0.map(|key| Key {
            scope: caller.token_id.clone(),
            key,
            body_hash,
        })
    }
}

/// Returns the SHA-256, in hex, of all that [`IdempotencyKey`] hashes, a line feed and the body. `None` means that the
/// header is absent or empty. The header is part of it because the database does not hold the header: without it, a
/// body could be guessed from its hash, and some bodies contain secrets.
pub(crate) fn hash_body(request: &Request, body: &[u8]) -> Option<String> {
    let mut hash = begin(request)?;
    hash.update(b"\n");
    hash.update(body);
    Some(hex(hash.finish().as_ref()))
}

/// Returns a hash of the path with its query, a line feed and the header. `None` means that the header is absent or
/// empty.
fn begin(request: &Request) -> Option<digest::Context> {
    let header = request.headers().get(HEADER).filter(|value| !value.is_empty())?;
    let mut hash = digest::Context::new(&digest::SHA256);
    // Without scheme and host: a client that speaks to a proxy sends them in front of the path (RFC 9112, section
    // 3.2.2).
    let uri = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    hash.update(uri.as_bytes());
    hash.update(b"\n");
    hash.update(header.as_bytes());
    Some(hash)
}

impl<'a> ApiExtractor<'a> for IdempotencyKey {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    const PARAM_IS_REQUIRED: bool = false;
    type ParamType = Option<String>;
    type ParamRawType = String;

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(String::schema_ref())
    }

    async fn from_request(
        request: &'a Request,
        _body: &mut RequestBody,
        _options: ExtractParamOptions<Self::ParamType>,
    ) -> poem::Result<Self> {
        Ok(Self(begin(request).map(|hash| hex(hash.finish().as_ref()))))
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}
