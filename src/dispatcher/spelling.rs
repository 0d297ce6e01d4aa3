//! Own headers go out in the capitals that they were given in. HTTP does not care; some receivers do.
//!
//! hyper writes a name in the capitals in which it has read it, and takes them from nowhere else: so an answer that has
//! these names is read once, from memory, and what hyper remembers of it is kept. Called by sender.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http_body_util::Empty;
use hyper::Request;
use hyper::client::conn::http1;
use hyper::http::Extensions;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use crate::error::{Error, Result};

/// Sets of names that are remembered; beyond it all are learnt anew.
const MOST_KNOWN: usize = 4096;

/// What makes hyper write names as they were given, by the names.
#[derive(Default)]
pub(super) struct Spellings(Mutex<HashMap<String, Extensions>>);

impl Spellings {
    /// For the extensions of a request whose headers are to be spelt like this.
    ///
    /// # Errors
    /// `Internal` when a name is no header's.
    pub async fn of(&self, names: impl Iterator<Item = &str>) -> Result<Extensions> {
        let names: Vec<&str> = names.filter(|name| has_capitals(name)).collect();
        if names.is_empty() {
            return Ok(Extensions::default());
        }
        let head = format!("HTTP/1.1 204 No Content\r\n{}: \r\n\r\n", names.join(": \r\n"));
        if let Some(known) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&head) {
            return Ok(known.clone());
        }
        let learnt = learn(head.as_bytes()).await;
        let learnt = learnt.ok_or_else(|| Error::internal("the names of own headers cannot be spelt"))?;
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(head, learnt.clone());
        Ok(learnt)
    }
}

fn has_capitals(name: &str) -> bool {
    name.bytes().any(|byte| byte.is_ascii_uppercase())
}

/// What hyper keeps of an answer that begins with `head`.
async fn learn(head: &[u8]) -> Option<Extensions> {
    let (near, mut far) = duplex(head.len());
    let answering = async move {
        let _ = far.read(&mut [0; 1]).await;
        let _ = far.write_all(head).await;
        far
    };
    let (mut sender, connection) = http1::Builder::new()
        .preserve_header_case(true)
        .handshake(TokioIo::new(near))
        .await
        .ok()?;
    let asking = sender.send_request(Request::new(Empty::<Bytes>::new()));
    let exchange = async { tokio::join!(asking, answering).0 };
    tokio::select! {
        response = exchange => Some(response.ok()?.into_parts().0.extensions),
        _ = connection => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_set_of_names_is_learnt_once_and_small_letters_need_no_learning() {
        let spellings = Spellings::default();
        let known = || spellings.0.lock().unwrap().len();
        assert!(spellings.of(["x-own"].into_iter()).await.unwrap().is_empty());
        assert_eq!(known(), 0);
        for _ in 0..2 {
            let learnt = spellings.of(["X-Own", "x-own-2"].into_iter()).await.unwrap();
            assert!(!learnt.is_empty());
            assert_eq!(known(), 1);
        }
    }
}
