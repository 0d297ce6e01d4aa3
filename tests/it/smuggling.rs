//! Requests that two parsers could read in different ways, sent to the program itself. Each hides a second request that
//! would create a message with a token of its own. The program refuses each of them, or reads it as exactly one
//! request, and the hidden one never runs.
//!
//! `.ci/stack/smuggling.py` sends the same corpus through the stack's proxy.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::iter;
use postrider::api::probe_routes;
use postrider::service::token::Grant;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::api::{Api, LIMITS};
use crate::harness::{DEADLINE, record};
use postrider::api::http::listener::Limits;

/// How many connections are open at once.
const AT_ONCE: usize = 64;
/// How long the program waits for a head, for a body, and for the next request on a connection. It ends each connection
/// thereby, so that the client reads to the end.
const HEAD: Duration = Duration::from_secs(5);
const BODY: Duration = Duration::from_millis(500);
const SILENCE: Duration = Duration::from_millis(300);
/// A header that the program adds to each of its responses, but its HTTP parser to none of its refusals.
const OF_THE_PROGRAM: &str = "x-content-type-options: nosniff";

/// The corpus. In its texts a character is a byte, and names in braces are replaced.
#[derive(Deserialize)]
struct Corpus {
    /// The header fields that a request to the outer application needs.
    head: String,
    /// The hidden request.
    inner: String,
    /// Its body.
    body: String,
    shapes: Vec<Shape>,
}

/// A request with a gap, and the lines that fill it.
#[derive(Deserialize)]
struct Shape {
    name: String,
    /// How many requests the client frames at most.
    requests: usize,
    text: String,
    lines: Vec<String>,
}

struct Case {
    name: String,
    requests: usize,
    bytes: Vec<u8>,
}

/// The tokens of the outer and of the hidden request.
struct Tokens<'a> {
    outer: &'a str,
    inner: &'a str,
}

impl Corpus {
    fn read() -> Self {
        serde_json::from_str(include_str!("smuggling/corpus.json")).expect("the corpus has this form")
    }

    fn cases(&self, tokens: &Tokens) -> Vec<Case> {
        let lines = self
            .shapes
            .iter()
            .flat_map(|shape| shape.lines.iter().map(move |line| (shape, line)));
        let case = |(number, (shape, line)): (usize, (&Shape, &String))| Case {
            name: format!("{}: {line:?}", shape.name),
            requests: shape.requests,
            bytes: self.request(&shape.text.replace("{line}", line), number, tokens),
        };
        lines.enumerate().map(case).collect()
    }

    /// Returns the hidden request by itself.
    fn inner(&self, number: usize, tokens: &Tokens) -> Vec<u8> {
        self.request("{inner}", number, tokens)
    }

    fn request(&self, text: &str, number: usize, tokens: &Tokens) -> Vec<u8> {
        let body = self.body.replace("{number}", &number.to_string());
        let inner = self.inner.replace("{inner_token}", tokens.inner);
        let inner = inner.replace("{m}", &body.len().to_string()).replace("{body}", &body);
        let (length, chunk) = (inner.len(), format!("{:x}", inner.len()));
        let filled = [
            ("{head}", self.head.as_str()),
            ("{path}", "/api/v1/app/outer/msg"),
            ("{ping}", "GET /api/v1/health HTTP/1.1\r\nhost: x\r\n\r\n"),
            ("{token}", tokens.outer),
            ("{inner_token}", tokens.inner),
            ("{n}", &length.to_string()),
            ("{n+5}", &(length + "0\r\n\r\n".len()).to_string()),
            ("{x}", &chunk),
            ("{p}", &(chunk.len() + 2).to_string()),
            ("{8k}", &"a".repeat(8 << 10)),
            ("{40k}", &"a".repeat(40 << 10)),
            ("{200 fields}", &"x: y\r\n".repeat(200)),
            ("{inner}", &inner),
        ]
        .iter()
        .fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
        filled
            .chars()
            .map(|letter| u8::try_from(letter).expect("a byte"))
            .collect()
    }
}

/// Sends bytes on a connection of their own, and returns all that comes back until the server ends it.
async fn exchange(address: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let (mut read, mut write) = TcpStream::connect(address).await.expect("a connection").into_split();
    let mut heard = Vec::new();
    let both = async {
        // A server that refuses early ends the connection while it is still being written to.
        let (_sent, _ended) = tokio::join!(write.write_all(bytes), read.read_to_end(&mut heard));
    };
    tokio::time::timeout(DEADLINE, both)
        .await
        .expect("the server ends the connection");
    heard
}

/// Returns the heads of the responses on a connection, from the status on.
fn heads(heard: &[u8]) -> Vec<String> {
    let text: String = heard.iter().map(|byte| char::from(*byte)).collect();
    let responses = text.split("HTTP/1.").skip(1);
    let heads = responses.filter_map(|response| response.get(2..)?.split("\r\n\r\n").next());
    let heads = heads.filter(|head| !head.starts_with("100 "));
    heads.map(str::to_owned).collect()
}

/// Returns how many requests the program has counted, on all routes.
async fn counted(api: &Api) -> usize {
    let answer = poem::test::TestClient::new(probe_routes(&api.probes))
        .get("/metrics")
        .send()
        .await;
    let page = answer.0.into_body().into_string().await.expect("text");
    let samples = page
        .lines()
        .filter(|line| line.starts_with("postrider_http_requests_total{"));
    let counts = samples.map(|line| line.rsplit(' ').next().and_then(|count| count.parse::<f64>().ok()));
    counts.map(|count| count.expect("a number")).sum::<f64>() as usize
}

both!(
    no_request_that_two_parsers_may_read_differently_hides_another,
    async |db| {
        let api = Api::with_body_deadline(db, BODY).await;
        let limits = Limits {
            request: HEAD,
            silence: SILENCE,
            ..LIMITS
        };
        let address = api.listen_within(limits).await;
        for app in ["outer", "smuggled"] {
            api.post("/app", json!({"name": app, "uid": app})).await.expect(201);
        }
        let inner = api.token(Grant::default()).await;
        let tokens = Tokens {
            outer: &api.token,
            inner: &inner,
        };
        let corpus = Corpus::read();
        let cases = corpus.cases(&tokens);
        let (number, before) = (cases.len(), counted(&api).await);

        let answered = iter(cases).map(async |case| {
            let heads = heads(&exchange(address, &case.bytes).await);
            let answers = heads.iter().filter(|head| head.contains(OF_THE_PROGRAM)).count();
            (case, heads.len() - answers, answers)
        });
        let answered: Vec<_> = answered.buffer_unordered(AT_ONCE).collect().await;

        let twice = answered.iter().filter(|(case, _, answers)| *answers > case.requests);
        let twice: Vec<_> = twice.map(|(case, _, answers)| (&case.name, answers)).collect();
        assert!(twice.is_empty(), "more answers than requests: {twice:#?}");
        let answers: usize = answered.iter().map(|(_, _, answers)| answers).sum();
        let refusals: usize = answered.iter().map(|(_, refusals, _)| refusals).sum();
        assert_eq!(
            counted(&api).await - before,
            answers,
            "requests that the program counted"
        );
        let smuggled = api.get("/app/smuggled/msg").await.json["data"].as_array().map(Vec::len);
        assert_eq!(smuggled, Some(0), "no hidden request has run");

        // The hidden request by itself does run, so that it would have run above.
        let alone = exchange(address, &corpus.inner(number, &tokens)).await;
        assert!(heads(&alone)[0].starts_with("202 "), "{}", heads(&alone)[0]);
        let created = api.get("/app/smuggled/msg").await.json["data"].as_array().map(Vec::len);
        assert_eq!(created, Some(1));
        let counts = json!({"cases": number, "connections": answered.len(), "refused by the parser": refusals,
            "answers": answers, "counted": answers, "smuggled": 0, "database": format!("{:?}", db.kind())});
        record("smuggling: the program alone", &counts);
    }
);
