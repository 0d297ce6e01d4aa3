//! A client of the API over a real socket: JSON in, JSON out. It repeats nothing; each request has one deadline.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::Request;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// How long one request may take. A process that was killed or stopped never responds.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
pub struct Caller {
    client: Client<HttpConnector, Full<Bytes>>,
    token: String,
}

impl Caller {
    pub fn new(token: &str) -> Self {
        Self {
            client: Client::builder(TokioExecutor::new()).build_http(),
            token: token.to_owned(),
        }
    }

    /// Returns the status and body of the response, or the reason why there is none. `server` is `http://HOST:PORT`;
    /// `path` is what follows `/api/v1`.
    pub async fn post(&self, server: &str, path: &str, key: &str, body: &Value) -> Result<(u16, Value), String> {
        let request = Request::post(format!("{server}/api/v1{path}"))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .body(Full::from(body.to_string()))
            .map_err(|err| err.to_string())?;
        let answer = async {
            let response = self.client.request(request).await.map_err(|err| err.to_string())?;
            let status = response.status().as_u16();
            let body = response
                .into_body()
                .collect()
                .await
                .map_err(|err| err.to_string())?
                .to_bytes();
            Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
        };
        tokio::time::timeout(PATIENCE, answer)
            .await
            .unwrap_or_else(|_| Err("no response in time".to_owned()))
    }

    /// Returns the body of the response to a GET, as JSON. The arguments are those of [`Caller::post`].
    ///
    /// # Panics
    /// If there is no response in time.
    pub async fn get(&self, server: &str, path: &str) -> Value {
        let request = Request::get(format!("{server}/api/v1{path}"))
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::default())
            .expect("a request");
        let answer = async {
            let response = self.client.request(request).await.expect("a response");
            response.into_body().collect().await.expect("a body").to_bytes()
        };
        let body = tokio::time::timeout(PATIENCE, answer).await;
        serde_json::from_slice(&body.expect("a response in time")).expect("JSON")
    }

    /// Returns the body of the response to a GET, as JSON; `None` if there is none in time, or its status is not 200.
    pub async fn try_get(&self, server: &str, path: &str) -> Option<Value> {
        let request = Request::get(format!("{server}/api/v1{path}"))
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::default())
            .ok()?;
        let answer = async {
            let response = self
                .client
                .request(request)
                .await
                .ok()
                .filter(|response| response.status() == 200)?;
            Some(response.into_body().collect().await.ok()?.to_bytes())
        };
        let body = tokio::time::timeout(PATIENCE, answer).await.ok().flatten()?;
        serde_json::from_slice(&body).ok()
    }

    /// Sends a DELETE and returns the status of the response. The arguments are those of [`Caller::post`].
    ///
    /// # Panics
    /// If there is no response in time.
    pub async fn delete(&self, server: &str, path: &str) -> u16 {
        let request = Request::delete(format!("{server}/api/v1{path}"))
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::default())
            .expect("a request");
        let answer = tokio::time::timeout(PATIENCE, self.client.request(request)).await;
        answer
            .expect("a response in time")
            .expect("a response")
            .status()
            .as_u16()
    }

    /// Returns the status of the response to a GET of `url`; `None` means that none came in time.
    pub async fn status(&self, url: &str) -> Option<u16> {
        let request = Request::get(url).body(Full::default()).ok()?;
        let answer = tokio::time::timeout(PATIENCE, self.client.request(request)).await;
        Some(answer.ok()?.ok()?.status().as_u16())
    }

    /// Returns the body of the response to a GET of `url`, as text.
    ///
    /// # Panics
    /// If there is no response in time.
    pub async fn text(&self, url: &str) -> String {
        let request = Request::get(url).body(Full::default()).expect("a url");
        let answer = async {
            let response = self.client.request(request).await.expect("a response");
            response.into_body().collect().await.expect("a body").to_bytes()
        };
        let text = tokio::time::timeout(PATIENCE, answer)
            .await
            .expect("a response in time");
        String::from_utf8(text.to_vec()).expect("text")
    }

    /// Creates something by a POST and returns the body of the response.
    ///
    /// # Panics
    /// If the status is not 2xx.
    pub async fn make(&self, server: &str, path: &str, body: Value) -> Value {
        let key = format!("{path} {body}");
        let (status, made) = self.post(server, path, &key, &body).await.expect("a response");
        assert!((200..300).contains(&status), "POST {path}: {status} {made}");
        made
    }
}
