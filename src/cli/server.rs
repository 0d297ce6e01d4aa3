//! Asks a server over its API, for commands that work with the database or, from another machine, with an address and a
//! token. Must not know any command.

use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, DATE};
use hyper::{Method, Request, Response};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Clock;
use crate::config::{Secret, resolve};
use crate::domain::secret::random_text;
use crate::domain::timestamp::Timestamp;
use crate::error::{Error, Kind, Result};

/// How long one response may take: the server itself gives up after 35 s.
const PATIENCE: Duration = Duration::from_secs(40);
/// The waits between the tries of a request that may be repeated: a server that is replaced is away for seconds.
const WAITS: [Duration; 3] = [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// The most bytes of a response: six times a page of 4 MiB, which JSON may take at most.
const MOST_BYTES: usize = 24 << 20;

#[derive(Args)]
pub struct ServerSettings {
    /// Ask the server at this address over its API, such as https://hooks.example.com, and not the database
    #[arg(long, env = "POSTRIDER_URL", value_name = "URL")]
    url: Option<String>,

    /// The token for --url
    #[arg(long, env = "POSTRIDER_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    token: Option<Secret>,

    /// A file to read the token from
    #[arg(long, env = "POSTRIDER_TOKEN_FILE", value_name = "FILE")]
    token_file: Option<PathBuf>,
}

impl ServerSettings {
    /// Returns the server to ask; `None` means that the database is asked.
    ///
    /// # Errors
    /// `Config` if there is no token, or if it is given twice or cannot be read.
    pub fn server(&self) -> Result<Option<Server>> {
        self.url.as_ref().map(|url| self.at(url)).transpose()
    }

    /// Returns the server to ask, for commands that cannot do without one.
    ///
    /// # Errors
    /// `Config` if there is no address or no token, or if the token is given twice or cannot be read.
    pub fn required(&self) -> Result<Server> {
        let url = self.url.as_ref();
        let url =
            url.ok_or_else(|| Error::config("there is no server to ask: set POSTRIDER_URL and POSTRIDER_TOKEN"))?;
        self.at(url)
    }

    fn at(&self, url: &str) -> Result<Server> {
        let url = url.trim_end_matches('/');
        let url = url.strip_suffix("/api/v1").unwrap_or(url).trim_end_matches('/');
        if !["http://", "https://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(Error::config("POSTRIDER_URL must begin with http:// or https://"));
        }
        let token = resolve("POSTRIDER_TOKEN", self.token.as_ref(), self.token_file.as_deref())?;
        let token = token.ok_or_else(|| Error::config("POSTRIDER_URL needs a token: set POSTRIDER_TOKEN"))?;
        Ok(Server {
            client: http_client()?,
            url: url.to_owned(),
            token,
            ahead: AtomicI64::new(0),
        })
    }
}

/// Asks up to four times, as long as the server is away.
async fn patiently<T>(ask: impl AsyncFn() -> Result<T>) -> Result<T> {
    for wait in WAITS {
        match ask().await {
            Err(err) if err.kind == Kind::Unavailable => {
                tracing::warn!("{err}; trying again");
                tokio::time::sleep(wait).await;
            }
            ended => return ended,
        }
    }
    ask().await
}

/// A client of HTTP and HTTPS.
pub(super) type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Returns a client that trusts the certificates of this machine.
///
/// # Errors
/// `Config` if there are none.
pub(super) fn http_client() -> Result<HttpClient> {
    let https = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
        .map_err(|err| Error::config("no root certificates were found for https").because(err))?
        .https_or_http()
        .enable_http1()
        .build();
    Ok(Client::builder(TokioExecutor::new()).build(https))
}

/// A server, and the token with which it is asked.
pub(super) struct Server {
    client: HttpClient,
    url: String,
    token: Secret,
    /// The server's clock minus this machine's, in microseconds, as its last response said. Each response writes it,
    /// [`Server::now`] reads it; `Relaxed`, because no other memory depends on it.
    ahead: AtomicI64,
}

/// Whose a token is, as far as commands need it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Whoami {
    app_id: Option<String>,
}

/// A page of a list.
#[derive(Deserialize)]
struct List<T> {
    data: Vec<T>,
    iterator: Option<String>,
    done: bool,
}

impl Server {
    /// Returns the present instant by the server's clock, as far as responses told it: to a second.
    pub fn now(&self) -> Timestamp {
        Timestamp(Clock::system().now().0 + self.ahead.load(Ordering::Relaxed))
    }

    /// Returns the application that a command names, or else that of the token.
    ///
    /// # Errors
    /// As [`Self::get`]; `Config` if the token is not limited to an application.
    pub async fn application_or(&self, named: Option<&str>) -> Result<String> {
        let own = match named {
            Some(app) => Some(app.to_owned()),
            None => self.application().await?,
        };
        own.ok_or_else(|| Error::config("this token is not limited to an application: name one with --app"))
    }

    /// Returns the application that the token is limited to; `None` means that it is not limited to one.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn application(&self) -> Result<Option<String>> {
        let whoami: Whoami = self.get("/auth/whoami").await?;
        Ok(whoami.app_id)
    }

    /// Returns the response to a GET. `path` is what follows `/api/v1`.
    ///
    /// # Errors
    /// `Config` if the address or the token is no part of a request; `Unavailable` if there is no response in time, for
    /// 408, 429 and 500 to 599, and for a 404 or a success that is not the API's; `NotImplemented` for 501, `Unauthenticated` for 401,
    /// `Forbidden` for 403, `NotFound` for 404; `Internal` for any other failure.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.send(Method::GET, path, Bytes::new(), None).await
    }

    /// Returns the response to a POST of a JSON body. `path` is what follows `/api/v1`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        self.send(Method::POST, path, body.to_string().into(), None).await
    }

    /// Returns the response to a POST that takes effect once: it has a random idempotency key, and is sent again with it
    /// if the server is away or its response is lost.
    ///
    /// # Errors
    /// As [`Self::get`]; `Unavailable` after the last of four tries.
    pub async fn post_once<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let body = serde_json::to_vec(body).map_err(|err| Error::internal("the body is JSON").because(err))?;
        let (key, body) = (random_text(), Bytes::from(body));
        patiently(async || self.send(Method::POST, path, body.clone(), Some(&key)).await).await
    }

    /// Returns the response to a GET, which is sent again if the server is away. `path` is what follows `/api/v1`.
    ///
    /// # Errors
    /// As [`Self::get`]; `Unavailable` after the last of four tries.
    pub async fn get_patiently<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        patiently(async || self.get(path).await).await
    }

    /// Returns the response to a PUT of a JSON body. `path` is what follows `/api/v1`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        self.send(Method::PUT, path, body.to_string().into(), None).await
    }

    /// Sends a DELETE. `path` is what follows `/api/v1`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn delete(&self, path: &str) -> Result<()> {
        let body = self.exchange(Method::DELETE, path, Bytes::new(), None).await?;
        match body.is_empty() {
            true => Ok(()),
            false => Err(self.foreign(Kind::Unavailable)),
        }
    }

    async fn send<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes, key: Option<&str>) -> Result<T> {
        let body = self.exchange(method, path, body, key).await?;
        serde_json::from_slice(&body).map_err(|err| {
            // What is no JSON is the page of a proxy, which says that the server is away.
            let kind = if err.is_data() {
                Kind::Internal
            } else {
                Kind::Unavailable
            };
            self.foreign(kind).because(err)
        })
    }

    /// Returns the error for a success that is not the API's.
    fn foreign(&self, kind: Kind) -> Error {
        Error::new(kind, format!("{} does not speak this API", self.url))
    }

    /// Sends a request, with `key` as its idempotency key, and returns the body of the response, if that is a success.
    async fn exchange(&self, method: Method, path: &str, body: Bytes, key: Option<&str>) -> Result<Bytes> {
        let mut request = Request::builder();
        if let Some(key) = key {
            request = request.header("idempotency-key", key);
        }
        let request = request
            .method(method)
            .uri(format!("{}/api/v1{path}", self.url))
            .header(AUTHORIZATION, format!("Bearer {}", self.token.expose()))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|err| Error::config("POSTRIDER_URL or POSTRIDER_TOKEN is not valid").because(err))?;
        let silent = || Error::unavailable(format!("no response from {}", self.url));
        let answer = async {
            let response = self
                .client
                .request(request)
                .await
                .map_err(|err| silent().because(reason(&err)))?;
            let status = response.status();
            self.note_time(&response);
            let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
            Ok::<_, Error>((status, body.map_err(|err| silent().because(err))?.to_bytes()))
        };
        let (status, body) = tokio::time::timeout(PATIENCE, answer).await.map_err(|_| silent())??;
        if status.is_success() {
            return Ok(body);
        }
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        let kind = match status.as_u16() {
            401 => Kind::Unauthenticated,
            403 => Kind::Forbidden,
            // A proxy has another body: it may not find the server while that is replaced.
            404 if said["code"].is_string() => Kind::NotFound,
            404 => Kind::Unavailable,
            501 => Kind::NotImplemented,
            408 | 429 | 500..=599 => Kind::Unavailable,
            _ => Kind::Internal,
        };
        Err(Error::new(
            kind,
            format!(
                "the server refused with {}: {}",
                status.as_u16(),
                words(&said["detail"])
            ),
        ))
    }

    /// Notes by how much the server's clock is ahead, if the response says when it was made.
    fn note_time<T>(&self, response: &Response<T>) {
        let date = response.headers().get(DATE).and_then(|value| value.to_str().ok());
        let date = date.and_then(|text| httpdate::parse_http_date(text).ok());
        let since = date.and_then(|date| date.duration_since(UNIX_EPOCH).ok());
        if let Some(since) = since {
            let server = Timestamp(0).plus(since);
            self.ahead.store(server.0 - Clock::system().now().0, Ordering::Relaxed);
        }
    }

    /// Calls `each` with the rows of every page of a list, oldest first. `path` is what follows `/api/v1`, and has no query.
    ///
    /// # Errors
    /// As [`Self::get`]; the error that `each` returns.
    pub async fn walk<T: DeserializeOwned>(
        &self,
        path: &str,
        mut each: impl AsyncFnMut(Vec<T>) -> Result<()>,
    ) -> Result<()> {
        let mut query = "limit=250&order=ascending".to_owned();
        loop {
            let page: List<T> = self.get(&format!("{path}?{query}")).await?;
            each(page.data).await?;
            match page.iterator {
                Some(iterator) if !page.done => query = format!("limit=250&order=ascending&iterator={iterator}"),
                _ => return Ok(()),
            }
        }
    }
}

/// Returns the detail of a refusal in words: a text, or a list of broken rules, each with the place of its value.
fn words(detail: &Value) -> String {
    let rule = |broken: &Value| {
        let place = broken["loc"].as_array().into_iter().flatten().skip(1);
        let place: Vec<_> = place
            .map(|part| part.as_str().map_or_else(|| part.to_string(), str::to_owned))
            .collect();
        Some(format!("{}: {}", place.join("."), broken["msg"].as_str()?))
    };
    let rules = detail
        .as_array()
        .and_then(|list| list.iter().map(rule).collect::<Option<Vec<_>>>());
    match (detail.as_str(), rules) {
        (Some(text), _) => text.to_owned(),
        (None, Some(rules)) => rules.join("; "),
        (None, None) => detail.to_string(),
    }
}

/// Returns the innermost reason of an error of the client, which is the one that says something.
pub(super) fn reason(err: &hyper_util::client::legacy::Error) -> String {
    let mut last: &dyn std::error::Error = err;
    while let Some(source) = last.source() {
        last = source;
    }
    last.to_string()
}

/// Escapes a text for the query of a path.
pub(super) fn escape(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}
