//! `app verify`: what it says of a signature that does not hold, in the words of the portal's page, and its exit codes.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nix::pty::openpty;
use ring::hmac;
use serde_json::json;
use standardwebhooks::Webhook;

use crate::api::Api;
use crate::harness::{Arrival, Ended, Program, Receiver};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const ED25519: &str = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2DXWpgBgrEKt9VL/tPJZAc6DuFy89qmIyWvAhpo9wdRGg==";
const ED25519_PUBLIC: &str = "whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const SENT: i64 = 1_614_265_330;
const BODY: &str = r#"{"total": 1.10}"#;
/// The portal's check of signatures.
const PORTAL: &str = include_str!("../../src/api/ui/portal/signature.js");

/// A request as it is given to the command: right unless a test changes it.
struct Case {
    secret: String,
    id: String,
    time: String,
    signature: String,
    body: String,
    more: Vec<String>,
}

impl Case {
    fn right() -> Self {
        let signature = Webhook::new(SECRET).unwrap().sign(ID, SENT, BODY.as_bytes()).unwrap();
        Self {
            secret: SECRET.to_owned(),
            id: ID.to_owned(),
            time: SENT.to_string(),
            signature,
            body: BODY.to_owned(),
            more: vec!["--any-age".to_owned()],
        }
    }

    /// Signs `content` with the bytes of `key`.
    fn signed_by(key: &[u8], content: &str) -> Self {
        let made = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), content.as_bytes());
        let signature = format!("v1,{}", STANDARD.encode(made));
        Self {
            signature,
            ..Self::right()
        }
    }

    /// Judges the age by an instant.
    fn at(instant: &str) -> Self {
        let more = vec!["--at".to_owned(), instant.to_owned()];
        Self { more, ..Self::right() }
    }

    async fn run(&self) -> Ended {
        let headers = [
            ("webhook-id", &self.id),
            ("webhook-timestamp", &self.time),
            ("webhook-signature", &self.signature),
        ];
        let headers = headers.map(|(name, value)| format!("{name}: {value}"));
        let mut arguments = vec!["verify", "--secret", &self.secret];
        arguments.extend(headers.iter().flat_map(|header| ["--header", header]));
        arguments.extend(self.more.iter().map(String::as_str));
        Program::bare().feed(&arguments, self.body.as_bytes()).await
    }

    /// Asserts that the command fails with these sentences, each of which the portal has too if it is said so.
    async fn fails(&self, title: &str, sentences: &[&str], in_portal: bool) {
        let said = self.run().await.failed(1);
        assert!(said.starts_with(&format!("error: {title}: ")), "{title}: {said}");
        for sentence in sentences.iter().chain([&title]) {
            assert!(said.contains(sentence), "{sentence}: {said}");
            assert!(
                !in_portal || PORTAL.contains(sentence),
                "the portal has other words: {sentence}"
            );
        }
        assert!(!said.contains(&SECRET["whsec_".len()..]), "{said}");
    }
}

#[tokio::test]
async fn a_valid_signature_is_said_on_standard_output_in_the_portal_s_words() {
    let said = Case::right().run().await.ok();
    assert_eq!(
        said,
        "The signature is valid: Secret, body, id and timestamp fit together.\n"
    );
    assert!(
        PORTAL.contains("The signature is valid") && PORTAL.contains("Secret, body, id and timestamp fit together.")
    );
}

#[tokio::test]
async fn a_missing_header_is_named() {
    let case = Case {
        id: String::new(),
        ..Case::right()
    };
    case.fails("Missing header", &["All three are needed. Missing: "], true)
        .await;
    case.fails("Missing header", &["Missing: webhook-id."], false).await;
}

#[tokio::test]
async fn a_header_that_is_given_twice_is_named() {
    let mut case = Case::right();
    case.more
        .extend(["--header", "Webhook-Id: msg_other"].map(str::to_owned));
    let words = "webhook-id is there more than once, and receivers differ in which value they take.";
    case.fails("Header given twice", &[words], false).await;
}

#[tokio::test]
async fn an_unreadable_timestamp_is_said() {
    let case = Case {
        time: "yesterday".to_owned(),
        ..Case::right()
    };
    case.fails(
        "Unreadable timestamp",
        &["It must be seconds since 1970, such as "],
        true,
    )
    .await;
}

#[tokio::test]
async fn an_old_request_says_how_old_it_is() {
    let words = "Receivers refuse what is older than 5 minutes, so that nobody can send it again";
    let case = Case::at("2021-02-25T17:02:10Z");
    case.fails("Old timestamp", &["The signature is right, but was made ", words], true)
        .await;
    case.fails("Old timestamp", &["was made 2 h ago"], false).await;
    assert_eq!(Case::at("2021-02-25T15:07:10Z").run().await.code, Some(0));
}

#[tokio::test]
async fn a_request_from_the_future_says_how_far_it_is_ahead() {
    let case = Case::at("2021-02-25T14:52:10Z");
    case.fails(
        "Timestamp in the future",
        &[" ahead. Is the clock of this computer right?"],
        true,
    )
    .await;
    case.fails("Timestamp in the future", &["Its time is 10 min ahead"], false)
        .await;
}

#[tokio::test]
async fn a_malformed_signature_header_says_its_form() {
    let case = Case {
        signature: "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".to_owned(),
        ..Case::right()
    };
    case.fails(
        "Unreadable signature",
        &["It must be v1 or v1a, a comma and base64"],
        false,
    )
    .await;
}

#[tokio::test]
async fn a_signature_of_an_unknown_version_is_named() {
    let case = Case {
        signature: "v2,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=".to_owned(),
        ..Case::right()
    };
    let words = "No signature of a known version is there: v1 and v1a are known.";
    case.fails("Unreadable signature", &[words], true).await;
    case.fails("Unreadable signature", &["The header has v2."], false).await;
}

#[tokio::test]
async fn a_hexadecimal_signature_is_named() {
    let case = Case {
        signature: format!("v1,{}", "ab".repeat(32)),
        ..Case::right()
    };
    case.fails("Unreadable signature", &["hexadecimal. It must be base64"], false)
        .await;
}

#[tokio::test]
async fn a_signature_without_its_padding_is_named() {
    let mut case = Case::right();
    case.signature = case.signature.trim_end_matches('=').to_owned();
    let words = "Padding is missing: = at the end of its base64.";
    case.fails("Unreadable signature", &[words], false).await;
}

#[tokio::test]
async fn a_signature_that_is_cut_off_is_named() {
    let case = Case {
        signature: "v1,g0hM9SsE".to_owned(),
        ..Case::right()
    };
    case.fails("Unreadable signature", &["base64 of 32 bytes. Is it complete?"], false)
        .await;
}

#[tokio::test]
async fn a_secret_of_another_kind_than_the_signature_is_named() {
    let case = Case {
        secret: ED25519_PUBLIC.to_owned(),
        ..Case::right()
    };
    case.fails(
        "Wrong secret",
        &["No signature begins with ", ", as this kind of secret makes."],
        true,
    )
    .await;
    case.fails(
        "Wrong secret",
        &[
            "v1a",
            "The header has v1, which a secret that begins with whsec_ makes.",
        ],
        false,
    )
    .await;
    let case = Case {
        signature: format!("v1a,{}", STANDARD.encode([1; 64])),
        ..Case::right()
    };
    case.fails(
        "Wrong secret",
        &["The header has v1a, which is verified with the key that begins with whpk_."],
        false,
    )
    .await;
}

#[tokio::test]
async fn a_text_that_is_no_secret_says_why() {
    let whsk = format!("whsk_{}", &ED25519_PUBLIC["whpk_".len()..]);
    let spaced = format!("whsec_ {}", &SECRET["whsec_".len()..]);
    for (secret, words, in_portal) in [
        ("", "It is empty.", false),
        ("sk_live_x", "It begins with none of whsec_, whpk_ and whsk_", false),
        ("pr_0123", "It is an API token.", false),
        ("whsec_", "Nothing follows whsec_.", false),
        (&spaced, "There is a space or a line break within it.", false),
        (
            "whsec_ab-_",
            "It has - or _ after its prefix, as base64 for URLs has.",
            false,
        ),
        (
            "whsec_***",
            "A secret is whsec_ and letters, digits, + and /, as the page of the endpoint shows it.",
            true,
        ),
        (&SECRET[..19], "It does not end as base64 does", false),
        (ED25519.trim_end_matches('='), "Padding is missing: = at its end", true),
        (
            &SECRET[..22],
            "A key that begins with whsec_ has 24 to 75 bytes, and this one has 12.",
            false,
        ),
        (
            &whsk,
            "this one has 32. A public key of 32 bytes begins with whpk_.",
            false,
        ),
    ] {
        let case = Case {
            secret: secret.to_owned(),
            ..Case::right()
        };
        case.fails("Unreadable secret", &[words], in_portal).await;
    }
}

#[tokio::test]
async fn a_rewritten_body_says_what_was_done_to_it() {
    let hint = "Sign the raw bytes of the request, before anything parses them.";
    let words = ["The secret is right, and the signature holds once ", hint];
    // The portal calls a line break at the end space, too.
    for (body, how, in_portal) in [
        (format!("{BODY}\n"), "the line breaks at its end are removed", false),
        (format!(" {BODY} "), "the space around it is removed", true),
    ] {
        Case { body, ..Case::right() }
            .fails("Altered body", &[words[0], how, hint], in_portal)
            .await;
    }
    let compact = Case::signed_by(
        &STANDARD.decode(&SECRET[6..]).unwrap(),
        &format!("{ID}.{SENT}.{{\"a\":\"ü\"}}"),
    );
    let python = Case {
        body: r#"{"a": "\u00fc"}"#.to_owned(),
        ..compact
    };
    python
        .fails(
            "Altered body",
            &[words[0], "its JSON is written by JSON.stringify", hint],
            true,
        )
        .await;
    let spaced = Case {
        body: r#"{ "a" : "ü" }"#.to_owned(),
        ..python
    };
    spaced
        .fails(
            "Altered body",
            &[words[0], "its JSON is written without spaces", hint],
            true,
        )
        .await;
}

#[tokio::test]
async fn a_signature_by_the_text_of_the_secret_is_named() {
    let case = Case::signed_by(SECRET.as_bytes(), &format!("{ID}.{SENT}.{BODY}"));
    case.fails("Secret not decoded", &["when it is decoded as base64"], false)
        .await;
}

#[tokio::test]
async fn a_signature_over_the_body_alone_is_named() {
    let case = Case::signed_by(&STANDARD.decode(&SECRET[6..]).unwrap(), BODY);
    case.fails("Incomplete content", &["made over the body alone"], false)
        .await;
}

#[tokio::test]
async fn a_wrong_id_is_named_and_the_right_one_if_it_is_there() {
    let case = Case {
        id: "order-1".to_owned(),
        ..Case::right()
    };
    case.fails("Wrong id", &["order-1 does not begin with msg_"], false)
        .await;
    let mut case = Case {
        id: "msg_other".to_owned(),
        ..Case::right()
    };
    case.more.extend(["--header".to_owned(), format!("x-request-id: {ID}")]);
    case.fails(
        "Wrong id",
        &[&format!("holds with the id {ID}, which is the header x-request-id")],
        false,
    )
    .await;
}

#[tokio::test]
async fn another_secret_or_body_is_said_to_be_either() {
    let words = "Secret, body, id or timestamp are not those that were signed.";
    let case = Case {
        body: "{}".to_owned(),
        ..Case::right()
    };
    case.fails("Wrong secret or altered request", &[words], true).await;
    let case = Case {
        body: String::new(),
        ..Case::right()
    };
    case.fails(
        "Wrong secret or altered request",
        &["The body was empty: it is read from standard input."],
        false,
    )
    .await;
}

#[tokio::test]
async fn secret_and_headers_may_come_from_a_file_and_from_variables() {
    let right = Case::right();
    let program = Program::bare();
    std::fs::write(program.folder().join("secret"), format!("{SECRET}\n")).expect("a file");
    let headers = format!(
        "Webhook-Id: {}\nWebhook-Timestamp: {}\nWebhook-Signature: {}\n",
        right.id, right.time, right.signature
    );
    let program = program
        .env("POSTRIDER_VERIFY_SECRET_FILE", "secret")
        .env("POSTRIDER_VERIFY_HEADER", headers.trim_end());
    program.feed(&["verify", "--any-age"], BODY.as_bytes()).await.ok();
}

#[tokio::test]
async fn what_is_no_request_at_all_is_refused() {
    let program = Program::bare();
    let said = program.feed(&["verify"], b"").await.failed(1);
    assert!(said.contains("give --secret, or set POSTRIDER_VERIFY_SECRET"), "{said}");
    let said = program
        .feed(&["verify", "--secret", SECRET, "--header", "webhook-id"], b"")
        .await
        .failed(2);
    assert!(said.contains("must be a name, a colon and a value"), "{said}");
    let terminal = openpty(None, None).expect("a terminal");
    let mut command = program.command(&["verify", "--secret", SECRET]);
    let ended = command.stdin(terminal.slave).output().expect("the binary runs");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(
        ended.status.code() == Some(1) && said.contains("end the command with < FILE"),
        "{said}"
    );
}

/// Runs the command with what a receiver got.
async fn verify(secret: &str, arrival: &Arrival, body: &[u8]) -> Ended {
    let headers = arrival.headers.iter();
    let headers: Vec<_> = headers
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    let mut arguments = vec!["verify", "--any-age", "--secret", secret];
    arguments.extend(headers.iter().flat_map(|header| ["-H", header]));
    Program::bare().feed(&arguments, body).await
}

both!(what_this_server_sends_is_valid_with_each_kind_of_secret, async |db| {
    let mut api = Api::on(db).await;
    let receiver = Receiver::start().await;
    let app = api.application("app").await;
    for (uid, secret) in [("symmetric", SECRET), ("ed25519", ED25519)] {
        let endpoint = json!({"uid": uid, "url": receiver.url_of(&format!("/{uid}")), "secret": secret});
        api.post(&format!("/app/{app}/endpoint"), endpoint).await.expect(201);
    }
    let message = json!({"eventType": "order.paid", "payload": {"total": 1, "text": "grüße"}});
    api.post(&format!("/app/{app}/msg"), message).await.expect(202);
    api.rig.drain().await;
    for arrival in receiver.wait_for(2).await {
        let path = format!("/app/{app}/endpoint{}/secret", arrival.path);
        let key = api.get(&path).await.field("key");
        verify(&key, &arrival, &arrival.body).await.ok();
        if arrival.path == "/ed25519" {
            verify(ED25519, &arrival, &arrival.body).await.ok();
        }
        let changed = verify(&key, &arrival, &[&arrival.body[..], b"\n"].concat()).await;
        assert!(changed.failed(1).contains("the line breaks at its end are removed"));
    }
});
