//! Asks a server over its API, for commands that work with the database or, from another machine, with an address and a
//! token. Must not know any command.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::config::{Secret, resolve};
use crate::error::{Error, Kind, Result};

/// How long one response may take: the server itself gives up after 35 s.
const PATIENCE: Duration = Duration::from_secs(40);
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
        let Some(url) = &self.url else { return Ok(None) };
        let token = resolve("POSTRIDER_TOKEN", self.token.as_ref(), self.token_file.as_deref())?;
        let token = token.ok_or_else(|| Error::config("POSTRIDER_URL needs a token: set POSTRIDER_TOKEN"))?;
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls::crypto::ring::default_provider())
            .map_err(|err| Error::config("no root certificates were found for https").because(err))?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Some(Server {
            client: Client::builder(TokioExecutor::new()).build(https),
            url: url.trim_end_matches('/').to_owned(),
            token,
        }))
    }
}

/// A server, and the token with which it is asked.
pub(super) struct Server {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: String,
    token: Secret,
}

/// A page of a list.
#[derive(Deserialize)]
struct List<T> {
    data: Vec<T>,
    iterator: Option<String>,
    done: bool,
}

impl Server {
    /// Returns the response to a GET. `path` is what follows `/api/v1`.
    ///
    /// # Errors
    /// `Config` if the address or the token is no part of a request; `Unavailable` if there is no response in time;
    /// `NotFound` for 404; `Internal` for any other failure.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    /// Returns the response to a POST of a JSON body. `path` is what follows `/api/v1`.
    ///
    /// # Errors
    /// As [`Self::get`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &Value) -> Result<T> {
        self.send(Method::POST, path, body.to_string().into()).await
    }

    async fn send<T: DeserializeOwned>(&self, method: Method, path: &str, body: Bytes) -> Result<T> {
        let request = Request::builder()
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
                .map_err(|err| silent().because(err))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MOST_BYTES).collect().await;
            Ok::<_, Error>((status, body.map_err(|err| silent().because(err))?.to_bytes()))
        };
        let (status, body) = tokio::time::timeout(PATIENCE, answer).await.map_err(|_| silent())??;
        if status.is_success() {
            return serde_json::from_slice(&body)
                .map_err(|err| Error::internal(format!("{} does not speak this API", self.url)).because(err));
        }
        let said: Value = serde_json::from_slice(&body).unwrap_or_default();
        let kind = if status == 404 { Kind::NotFound } else { Kind::Internal };
        let detail = said["detail"]
            .as_str()
            .map_or_else(|| said["detail"].to_string(), str::to_owned);
        Err(Error::new(
            kind,
            format!("the server refused with {}: {detail}", status.as_u16()),
        ))
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
