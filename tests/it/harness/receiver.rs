//! A customer's HTTP server for tests: records every request and answers each as the test has set.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use standardwebhooks::Webhook;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::within::DEADLINE;

/// The receiver's reaction to one request. It always reads the whole request first.
#[derive(Clone, Debug)]
pub struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
    delay: Duration,
    gate: Option<watch::Receiver<bool>>,
    ending: Ending,
}

/// Holds answers back until it is opened.
pub struct Gate(watch::Sender<bool>);

impl Gate {
    pub fn closed() -> Self {
        Self(watch::Sender::new(false))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Ending {
    Whole,
    /// No answer; the connection stays open.
    Hang,
    /// No answer; the connection ends.
    Cut,
    /// The head and the body arrive, then the connection ends although more was announced.
    CutInBody,
    /// The body is repeated without end.
    Endless,
    Dripping(Duration),
}

impl Answer {
    pub fn status(status: u16) -> Self {
        let status = StatusCode::from_u16(status).expect("a status has three digits");
        Self {
            status,
            headers: HeaderMap::new(),
            body: Bytes::new(),
            delay: Duration::ZERO,
            gate: None,
            ending: Ending::Whole,
        }
    }

    pub fn ok() -> Self {
        Self::status(200)
    }

    pub fn hang() -> Self {
        Self {
            ending: Ending::Hang,
            ..Self::ok()
        }
    }

    pub fn cut() -> Self {
        Self {
            ending: Ending::Cut,
            ..Self::ok()
        }
    }

    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a header value");
        self.headers.append(HeaderName::from_static(name), value);
        self
    }

    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Delays the answer.
    pub fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Delays the answer until the gate is open.
    pub fn behind(mut self, gate: &Gate) -> Self {
        self.gate = Some(gate.0.subscribe());
        self
    }

    /// Repeats the body without end, one copy in each interval.
    pub fn dripping(mut self, every: Duration) -> Self {
        self.ending = Ending::Dripping(every);
        self
    }

    /// Ends the connection after the body although more was announced.
    pub fn cut_in_body(mut self) -> Self {
        self.ending = Ending::CutInBody;
        self
    }

    /// Repeats the body without end.
    pub fn endless(mut self) -> Self {
        self.ending = Ending::Endless;
        self
    }
}

/// A received request.
#[derive(Clone, Debug)]
pub struct Arrival {
    pub at: Instant,
    pub method: String,
    /// The path with the query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Arrival {
    /// Returns the `webhook-id` header, or an empty text.
    pub fn message_id(&self) -> &str {
        self.header("webhook-id").unwrap_or_default()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// Returns whether one of the signatures equals the one that the public library computes from this secret
    /// (`whsec_…`) and the request's timestamp.
    pub fn is_signed_with(&self, secret: &str) -> bool {
        let webhook = Webhook::new(secret).expect("a whsec_ secret");
        let timestamp = self
            .header("webhook-timestamp")
            .and_then(|text| text.parse().ok())
            .unwrap_or_default();
        let expected = webhook
            .sign(self.message_id(), timestamp, &self.body)
            .expect("the body is text");
        self.header("webhook-signature")
            .is_some_and(|given| given.split(' ').any(|signature| signature == expected))
    }
}

type Rule = Box<dyn Fn(&Arrival) -> Answer + Send>;

struct Inner {
    rule: Mutex<Rule>,
    next: Mutex<VecDeque<Answer>>,
    arrivals: Mutex<Vec<Arrival>>,
    count: watch::Sender<usize>,
}

/// Listens on a loopback port until it is dropped. Answers 200 unless the test sets another answer.
pub struct Receiver {
    address: SocketAddr,
    inner: Arc<Inner>,
    accepting: JoinHandle<()>,
}

impl Receiver {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let inner = Arc::new(Inner {
            rule: Mutex::new(Box::new(|_| Answer::ok())),
            next: Mutex::default(),
            arrivals: Mutex::default(),
            count: watch::Sender::new(0),
        });
        let accepting = tokio::spawn(accept(listener, inner.clone()));
        Self {
            address,
            inner,
            accepting,
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn url(&self) -> String {
        self.url_of("/")
    }

    pub fn url_of(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sets the answer to every request from now on.
    pub fn answer(&self, answer: Answer) {
        self.answer_by(move |_| answer.clone());
    }

    /// Sets a rule that chooses the answer to each request from now on.
    pub fn answer_by(&self, rule: impl Fn(&Arrival) -> Answer + Send + 'static) {
        *self.inner.rule.lock().expect("no panic under this lock") = Box::new(rule);
    }

    /// Sets the answers to the next requests, in this order. After them the general rule applies again.
    pub fn answer_next(&self, answers: impl IntoIterator<Item = Answer>) {
        self.inner
            .next
            .lock()
            .expect("no panic under this lock")
            .extend(answers);
    }

    pub fn arrivals(&self) -> Vec<Arrival> {
        self.inner.arrivals.lock().expect("no panic under this lock").clone()
    }

    pub fn count(&self) -> usize {
        *self.inner.count.borrow()
    }

    /// Waits until at least `count` requests have arrived, and returns all that have.
    ///
    /// # Panics
    /// After [`DEADLINE`].
    pub async fn wait_for(&self, count: usize) -> Vec<Arrival> {
        self.wait_until(&format!("{count} arrivals"), |arrivals| arrivals.len() >= count)
            .await
    }

    /// Waits until the arrivals satisfy `is_so`, and returns them.
    ///
    /// # Panics
    /// After [`DEADLINE`]; `what` names the thing that did not happen.
    pub async fn wait_until(&self, what: &str, mut is_so: impl FnMut(&[Arrival]) -> bool) -> Vec<Arrival> {
        let mut count = self.inner.count.subscribe();
        let waiting = count.wait_for(|_| is_so(&self.inner.arrivals.lock().expect("no panic under this lock")));
        if tokio::time::timeout(DEADLINE, waiting).await.is_err() {
            panic!(
                "still not so after {DEADLINE:?}: {what}; {} requests have arrived",
                self.count()
            );
        }
        self.arrivals()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, inner: Arc<Inner>) {
    // Dropped with this task: the connections of a dropped receiver end.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        let inner = inner.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| serve(request, inner.clone()));
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
        while connections.try_join_next().is_some() {}
    }
}

type Reply = Response<BoxBody<Bytes, std::io::Error>>;

async fn serve(request: Request<Incoming>, inner: Arc<Inner>) -> Result<Reply, std::io::Error> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    let arrival = Arrival {
        at: Instant::now(),
        method: head.method.to_string(),
        path: head.uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
        headers: head.headers,
        body,
    };
    let next = inner.next.lock().expect("no panic under this lock").pop_front();
    let answer = next.unwrap_or_else(|| (inner.rule.lock().expect("no panic under this lock"))(&arrival));
    inner.arrivals.lock().expect("no panic under this lock").push(arrival);
    inner.count.send_modify(|count| *count += 1);
    tokio::time::sleep(answer.delay).await;
    if let Some(mut gate) = answer.gate.clone() {
        let _ = gate.wait_for(|open| *open).await;
    }
    reply(answer).await
}

async fn reply(answer: Answer) -> Result<Reply, std::io::Error> {
    let cut = || std::io::Error::other("the receiver was told to cut the connection");
    let body = answer.body;
    let infallible = |err: Infallible| match err {};
    let body = match answer.ending {
        Ending::Whole => Full::new(body).map_err(infallible).boxed(),
        Ending::Hang => std::future::pending().await,
        Ending::Cut => return Err(cut()),
        Ending::CutInBody => {
            let frames = [Ok(Frame::data(body)), Err(cut())];
            BodyExt::boxed(StreamBody::new(stream::iter(frames)))
        }
        Ending::Dripping(every) => BodyExt::boxed(StreamBody::new(stream::repeat(body).then(move |part| async move {
            tokio::time::sleep(every).await;
            Ok(Frame::data(part))
        }))),
        Ending::Endless => BodyExt::boxed(StreamBody::new(stream::repeat(body).map(|part| Ok(Frame::data(part))))),
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    Ok(response)
}
