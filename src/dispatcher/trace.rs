//! Notes, for the attempt that a task makes, for which application it is and how its new connection came about.
//!
//! The layers of the connector write the steps of a connection; the attempt reads them if it fails. hyper may finish a
//! connect in a task of its own, when an idle connection became free before it. So the steps belong to the connection
//! and are shared with the attempt; a mutex orders the two. An attempt over an open connection notes nothing.
//!
//! Must not judge an attempt.

use std::cell::RefCell;
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use futures_util::future::Inspect;
use hyper::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::Instant;
use tower_service::Service;

use crate::domain::typed_id::AppId;

tokio::task_local! {
    static ATTEMPT: Attempt;
    /// The connection that a future opens.
    static OPENING: Arc<Opening>;
}

struct Attempt {
    app: AppId,
    /// The connection that was opened last for this attempt. `None` means that none was.
    opening: RefCell<Option<Arc<Opening>>>,
}

struct Opening {
    /// The application for which a lookup counts.
    app: AppId,
    steps: Mutex<Steps>,
}

/// The steps of a new connection; `None` means that a step has not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Steps {
    pub begun: Instant,
    /// Whether the host's name is being resolved.
    pub is_resolving: bool,
    pub resolved: Option<Instant>,
    /// The first address of the name.
    pub address: Option<IpAddr>,
    pub connected: Option<Instant>,
    /// The addresses of the connection, ours and the receiver's.
    pub ends: Option<(SocketAddr, SocketAddr)>,
    /// When the connection could be used.
    pub ready: Option<Instant>,
}

impl Opening {
    fn steps(&self) -> MutexGuard<'_, Steps> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs an exchange of `app`, so that its steps are noted. A lookup that it begins counts for `app`.
pub(super) async fn attempt_of<F: Future>(app: &AppId, exchange: F) -> F::Output {
    let attempt = Attempt {
        app: app.clone(),
        opening: RefCell::default(),
    };
    ATTEMPT.scope(attempt, exchange).await
}

/// Returns the application of the attempt, or of the connection that is being opened.
pub(super) fn app() -> AppId {
    let opening = OPENING.try_with(|opening| opening.app.clone());
    opening
        .or_else(|_| ATTEMPT.try_with(|attempt| attempt.app.clone()))
        .unwrap_or_default()
}

/// Returns the steps of the new connection of this task's attempt. `None` means that none was begun.
pub(super) fn steps() -> Option<Steps> {
    let steps = |attempt: &Attempt| attempt.opening.borrow().as_ref().map(|opening| *opening.steps());
    ATTEMPT.try_with(steps).ok().flatten()
}

/// Makes a future that opens a connection as `connecting` does. Its steps are those of this task's attempt.
pub(super) fn open<F: Future>(connecting: F) -> impl Future<Output = F::Output> {
    let opening = Arc::new(Opening {
        app: app(),
        steps: Mutex::new(Steps {
            begun: Instant::now(),
            is_resolving: false,
            resolved: None,
            address: None,
            connected: None,
            ends: None,
            ready: None,
        }),
    });
    // It fails in tests of the connector alone.
    let _ = ATTEMPT.try_with(|attempt| attempt.opening.replace(Some(opening.clone())));
    OPENING.scope(opening, connecting)
}

/// Notes a step of the connection that is being opened.
pub(super) fn note(step: impl FnOnce(&mut Steps)) {
    let _ = OPENING.try_with(|opening| step(&mut opening.steps()));
}

/// A connector over TCP that notes when it has connected, and to which address.
#[derive(Clone)]
pub struct Traced<C>(pub C);

impl<C> Service<Uri> for Traced<C>
where
    C: Service<Uri, Response = TokioIo<TcpStream>>,
{
    type Response = C::Response;
    type Error = C::Error;
    type Future = Inspect<C::Future, fn(&Result<C::Response, C::Error>)>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), C::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        self.0.call(uri).inspect(note_connected)
    }
}

fn note_connected<E>(connected: &Result<TokioIo<TcpStream>, E>) {
    if let Ok(stream) = connected {
        let stream = stream.inner();
        note(|steps| {
            steps.connected = Some(Instant::now());
            steps.ends = stream.local_addr().ok().zip(stream.peer_addr().ok());
        });
    }
}
