//! A webhook receiver: verifies each request's signature, prints one line for it and answers 204, or 400.
//!
//!     SECRET=whsec_... cargo run [-- --host 127.0.0.1 --port 9000 --secret whsec_...]

use std::collections::HashMap;
use std::error::Error;
use std::io::Read;

use http::{HeaderMap, HeaderName, HeaderValue};
use standardwebhooks::{HEADER_WEBHOOK_ID, Webhook};
use tiny_http::{Request, Response, Server};

const LARGEST_BODY: u64 = 4 * 1024 * 1024;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let flags = flags()?;
    let setting = |flag: &str, env: &str| flags.get(flag).cloned().or_else(|| std::env::var(env).ok());
    let host = setting("--host", "HOST").unwrap_or("127.0.0.1".into());
    let port = setting("--port", "PORT").unwrap_or("9000".into());
    let secret =
        setting("--secret", "SECRET").ok_or("no secret: set SECRET or --secret to the endpoint's whsec_... text")?;
    let webhook = Webhook::new(&secret)?;
    let server = Server::http(format!("{host}:{port}"))?;
    println!("listening on http://{host}:{port}");
    for mut request in server.incoming_requests() {
        let status = match verify(&webhook, &mut request) {
            // A message may arrive more than once: a real receiver ignores a webhook-id that it has handled before.
            Ok(line) => {
                println!("verified {line}");
                204
            }
            Err(refusal) => {
                println!("refused: {refusal}");
                400
            }
        };
        // The sender may have hung up meanwhile; it will try again.
        let _ = request.respond(Response::empty(status));
    }
    Ok(())
}

/// Returns the message's id and payload if the signature is right.
fn verify(webhook: &Webhook, request: &mut Request) -> Result<String, Box<dyn Error + Send + Sync>> {
    let mut body = Vec::new();
    request.as_reader().take(LARGEST_BODY).read_to_end(&mut body)?;
    let mut headers = HeaderMap::new();
    for header in request.headers() {
        headers.insert(
            HeaderName::from_bytes(header.field.as_str().as_str().as_bytes())?,
            HeaderValue::from_str(header.value.as_str())?,
        );
    }
    webhook.verify(&body, &headers)?;
    Ok(format!(
        "{} {}",
        headers[HEADER_WEBHOOK_ID].to_str()?,
        str::from_utf8(&body)?
    ))
}

/// Reads the `--name value` pairs of the command line.
fn flags() -> Result<HashMap<String, String>, String> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    given
        .chunks(2)
        .map(|pair| match pair {
            [name, value] if ["--host", "--port", "--secret"].contains(&name.as_str()) => {
                Ok((name.clone(), value.clone()))
            }
            _ => Err(format!(
                "{}: only --host, --port and --secret, each with a value",
                pair[0]
            )),
        })
        .collect()
}
