//! A receiver of webhooks on 127.0.0.1. Each inbox is a URL that keeps the deliveries that arrive there.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use svix::webhooks::{Webhook, WebhookError};
use tiny_http::{Request, Response, Server};

use crate::run::{Outcome, new_name};

pub const DEADLINE: Duration = Duration::from_secs(30);

pub struct Delivery {
    pub headers: HeaderMap,
    pub body: Vec<u8>,
}

impl Delivery {
    /// Verifies the signature with the SDK.
    pub fn verify(&self, secret: &str) -> Result<(), WebhookError> {
        Webhook::new(secret)?.verify(&self.body, &self.headers)
    }

    /// Verifies the signature and returns the payload.
    pub fn verified(&self, secret: &str) -> Outcome<Value> {
        self.verify(secret)?;
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// Returns the id of the message.
    pub fn message(&self) -> Outcome<String> {
        Ok(self.header("webhook-id").ok_or("no webhook-id")?.to_owned())
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

pub struct Inbox {
    pub url: String,
    slot: Slot,
}

impl Inbox {
    /// Sets the status of the answers from now on; at first it is 204.
    pub fn answer(&self, status: u16) {
        self.slot.lock().expect("no thread panics with it").status = status;
    }

    /// Returns the next delivery.
    ///
    /// # Errors
    /// If none arrives within the deadline.
    pub async fn take(&self) -> Outcome<Delivery> {
        let end = Instant::now() + DEADLINE;
        while Instant::now() < end {
            if let Some(delivery) = self.slot.lock().expect("no thread panics with it").arrived.pop_front() {
                return Ok(delivery);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Err("no delivery came".into())
    }

    pub fn is_empty(&self) -> bool {
        self.slot.lock().expect("no thread panics with it").arrived.is_empty()
    }
}

/// An inbox as the receiver and its user share it. The receiver's thread reads the status and adds deliveries, the user
/// sets the status and takes deliveries; both lock it.
type Slot = Arc<Mutex<Kept>>;

struct Kept {
    status: u16,
    arrived: VecDeque<Delivery>,
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
        let path = new_name("/inbox");
        let kept = Kept {
            status: 204,
            arrived: VecDeque::new(),
        };
        let slot = Slot::new(Mutex::new(kept));
        slots.insert(path.clone(), slot.clone());
        Inbox {
            url: format!("{}{path}", self.address),
            slot,
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
    let slot = slots
        .lock()
        .expect("no thread panics with it")
        .get(request.url())
        .cloned();
    let slot = slot.ok_or("there is no inbox at this path")?;
    let status = {
        let mut kept = slot.lock().expect("no thread panics with it");
        kept.arrived.push_back(Delivery { headers, body });
        kept.status
    };
    Ok(request.respond(Response::empty(status))?)
}
