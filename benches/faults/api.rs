//! Calls the REST API of a process under test. Must not judge the responses.

use crate::Failure;
use crate::wire::{Connection, status};
use serde_json::Value;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::time::timeout;

pub const TOKEN: &str = "fault-harness-admin-token-0123456789";
const DEADLINE: Duration = Duration::from_secs(15);
/// How long a call is repeated while the process has too much to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// Sends one request over the connection, and returns the status and the body of the response.
pub async fn exchange(
    connection: &mut Connection,
    address: SocketAddr,
    method: &str,
    path: &str,
    key: Option<&str>,
    body: &str,
) -> io::Result<(u16, Value)> {
    let key = key.map_or(String::new(), |key| format!("idempotency-key: {key}\r\n"));
    let request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {address}\r\nauthorization: Bearer {TOKEN}\r\n\
         content-type: application/json\r\n{key}content-length: {}\r\n\r\n{body}",
        body.len()
    );
    connection.send(request.as_bytes()).await?;
    let frame = connection.receive().await?.ok_or(io::ErrorKind::ConnectionReset)?;
    let code = status(connection.head(&frame))?;
    Ok((
        code,
        serde_json::from_slice(connection.body(&frame)).unwrap_or_default(),
    ))
}

/// Calls the API over a connection of its own.
pub async fn call(address: SocketAddr, method: &str, path: &str, body: &str) -> io::Result<(u16, Value)> {
    let calling = async {
        let mut connection = Connection::open(address).await?;
        exchange(&mut connection, address, method, path, None, body).await
    };
    let late = |_| io::Error::from(io::ErrorKind::TimedOut);
    timeout(DEADLINE, calling).await.map_err(late)?
}

/// Calls the API until it succeeds, and returns the body of the response.
pub async fn insist(address: SocketAddr, method: &str, path: &str, body: &Value) -> Result<Value, Failure> {
    let deadline = Instant::now() + PATIENCE;
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    loop {
        let failure = match call(address, method, path, &body).await {
            Ok((200..=299, answer)) => return Ok(answer),
            Ok((status @ (400..=499), answer)) => return Err(format!("{method} {path}: {status} {answer}").into()),
            Ok((status, answer)) => format!("{status} {answer}"),
            Err(error) => error.to_string(),
        };
        if Instant::now() >= deadline {
            return Err(format!("{method} {path}: {failure}").into());
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Reads all pages of a list with the API's iterators; `path` ends with its query. Passes each item to `take`.
pub async fn read_all(address: SocketAddr, path: &str, mut take: impl FnMut(&Value)) -> Result<(), Failure> {
    let mut iterator = String::new();
    loop {
        let page = insist(address, "GET", &format!("{path}{iterator}"), &Value::Null).await?;
        page["data"].as_array().into_iter().flatten().for_each(&mut take);
        let next = page["iterator"].as_str();
        match next.filter(|_| page["done"] != Value::Bool(true)) {
            Some(next) => iterator = format!("&iterator={next}"),
            None => return Ok(()),
        }
    }
}
