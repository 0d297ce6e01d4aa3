//! The API's connections: what a client that does not read its response may hold, and for how long.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

use crate::api::Api;
use crate::harness::{DEADLINE, within};

/// Messages of an application, on a page of 4 MB.
async fn messages(api: &Api) -> String {
    let app = api.application("app").await;
    for _ in 0..4 {
        let message = json!({"eventType": "t", "payload": {"k": "x".repeat(1_000_000)}});
        api.post(&format!("/app/{app}/msg"), message).await.expect(202);
    }
    format!("/app/{app}/msg")
}

/// A client with a small buffer that has asked for this list several times, more than the system's buffers hold.
async fn asking(api: &Api, address: SocketAddr, list: &str) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 << 10).unwrap();
    let mut client = socket.connect(address).await.unwrap();
    let request = |connection: &str| {
        format!(
            "GET /api/v1{list} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\nconnection: {connection}\r\n\r\n",
            api.token
        )
    };
    let requests = request("keep-alive").repeat(3) + &request("close");
    client.write_all(requests.as_bytes()).await.unwrap();
    client
}

/// Whether the server, which takes one connection at a time, answers another by now.
async fn is_answered(other: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(Duration::from_millis(5), other.read_u8());
    matches!(read.await, Ok(Ok(b'H')))
}

sqlite_only!(
    a_client_that_reads_its_response_not_or_too_slowly_is_cut_off,
    async |db| {
        let api = Api::on(db).await;
        let list = messages(&api).await;
        for piece in [0, 1024] {
            let address = api.listen_to_one_reader(Duration::from_millis(500)).await;
            let mut slow = asking(&api, address, &list).await;
            let mut other = TcpStream::connect(address).await.unwrap();
            let ping = b"GET /api/v1/health/ping HTTP/1.1\r\nhost: x\r\n\r\n";
            other.write_all(ping).await.unwrap();
            within(DEADLINE, "its connection is free for another", async || {
                let _ = tokio::time::timeout(Duration::from_millis(1), slow.read(&mut vec![0; piece])).await;
                is_answered(&mut other).await.then_some(())
            })
            .await;
            let mut rest = Vec::new();
            let _ = slow.read_to_end(&mut rest).await;
            assert!(rest.len() < 16_000_000, "{} bytes, which is all", rest.len());
        }
    }
);

sqlite_only!(a_client_that_reads_slowly_but_steadily_gets_everything, async |db| {
    let api = Api::on(db).await;
    let list = messages(&api).await;
    let address = api.listen_to_one_reader(DEADLINE).await;
    let mut slow = asking(&api, address, &list).await;
    let (mut all, mut piece) = (0, vec![0; 16 << 10]);
    loop {
        tokio::task::yield_now().await;
        match slow.read(&mut piece).await.unwrap() {
            0 => break,
            length => all += length,
        }
    }
    assert!(all > 16_000_000, "{all} bytes");
});

// There is no deadline for a response there, and no limit of requests: the client would choose both.
sqlite_only!(a_client_that_speaks_http_2_is_cut_off_at_its_first_words, async |db| {
    let api = Api::on(db).await;
    let address = api.listen_to_one_reader(DEADLINE).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for piece in [preface.len(), 1] {
        let mut client = TcpStream::connect(address).await.unwrap();
        for part in preface.chunks(piece) {
            if client.write_all(part).await.is_err() {
                break;
            }
        }
        let mut heard = Vec::new();
        let ended = tokio::time::timeout(DEADLINE, client.read_to_end(&mut heard)).await;
        assert!(ended.is_ok() && heard.is_empty(), "in pieces of {piece}: {heard:?}");
    }
});
