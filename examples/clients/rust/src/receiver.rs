//! A receiver of webhooks on 127.0.0.1: each inbox is a URL that keeps what arrives there.

use std::collections::HashMap;
use std::sync::mpsc::{self, RecvTimeoutError, Sender, TryRecvError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use svix::webhooks::{Webhook, WebhookError};
use tiny_http::{Request, Response, Server};

use crate::run::Outcome;

pub const DEADLINE: Duration = Duration::from_secs(30);

pub struct Delivery {
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Delivery {
    /// Whether the SDK finds the signature right.
    pub fn verify(&self, secret: &str) -> Result<(), WebhookError> {
        Webhook::new(secret)?.verify(&self.body, &self.headers)
    }

    /// The payload, once the signature is verified.
    pub fn verified(&self, secret: &str) -> Outcome<Value> {
        self.verify(secret)?;
        Ok(serde_json::from_slice(&self.body)?)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

pub struct Inbox {
    pub url: String,
    status: Arc<Mutex<u16>>,
    arrived: mpsc::Receiver<Delivery>,
}

impl Inbox {
    /// What the sender is answered from now on; 204 at first.
    pub fn answer(&self, status: u16) {
        *self.status.lock().expect("no thread panics with it") = status;
    }

    /// The next delivery; an error when none comes within the deadline.
    pub async fn take(&self) -> Outcome<Delivery> {
        let end = tokio::time::Instant::now() + DEADLINE;
        loop {
            match self.arrived.try_recv() {
                Ok(delivery) => return Ok(delivery),
                Err(TryRecvError::Empty) if tokio::time::Instant::now() < end => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Err(_) => return Err(RecvTimeoutError::Timeout.into()),
            }
        }
    }
}

struct Slot {
    status: Arc<Mutex<u16>>,
    arrived: Sender<Delivery>,
}

#[derive(Clone)]
pub struct Receiver {
    address: String,
    slots: Arc<Mutex<HashMap<String, Slot>>>,
}

impl Receiver {
    pub fn start() -> Outcome<Self> {
        let server = Server::http("127.0.0.1:0")?;
        let receiver = Self {
            address: format!("http://{}", server.server_addr()),
            slots: Arc::default(),
        };
        let slots = receiver.slots.clone();
        thread::spawn(move || {
            for request in server.incoming_requests() {
                // The sender may have hung up meanwhile; it will try again.
                let _ = keep(request, &slots);
            }
        });
        Ok(receiver)
    }

    pub fn inbox(&self) -> Inbox {
        let mut slots = self.slots.lock().expect("no thread panics with it");
        let (path, status) = (format!("/{}", slots.len()), Arc::new(Mutex::new(204)));
        let (arrived, inbox) = mpsc::channel();
        let slot = Slot {
            status: status.clone(),
            arrived,
        };
        slots.insert(path.clone(), slot);
        Inbox {
            url: format!("{}{path}", self.address),
            status,
            arrived: inbox,
        }
    }
}

fn keep(mut request: Request, slots: &Mutex<HashMap<String, Slot>>) -> Outcome {
    let mut body = Vec::new();
    request.as_reader().read_to_end(&mut body)?;
    let mut headers = HeaderMap::new();
    for header in request.headers() {
        headers.insert(
            HeaderName::from_bytes(header.field.as_str().as_str().as_bytes())?,
            HeaderValue::from_str(header.value.as_str())?,
        );
    }
    let status = {
        let slots = slots.lock().expect("no thread panics with it");
        let slot = slots.get(request.url()).ok_or("nobody waits at this path")?;
        let _ = slot.arrived.send(Delivery { headers, body });
        *slot.status.lock().expect("no thread panics with it")
    };
    Ok(request.respond(Response::empty(status))?)
}
