//! Properties of the parsers of this directory, for texts that proptest chooses: what is written is read back, nothing
//! panics, and each parser agrees with a simple one or with another library.
//!
//! Tests only. What single texts mean is tested beside each parser.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hyper::HeaderMap;
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::Value;
use serde_json::value::RawValue;
use standardwebhooks::Webhook;

use super::cursor::{Cursor, Place, TX_BITS, mark};
use super::filter::{EndpointFilter, accepts};
use super::id::{IdSource, Prefix};
use super::identifier::{check_content_type, check_header_name, check_header_value, check_identifier, check_uid};
use super::pattern::fits;
use super::payload::{DEEPEST, check_depth, check_payload};
use super::retry::{RetrySchedule, parse_retry_after};
use super::secret::EndpointSecret;
use super::signature::sign;
use super::target::{Networks, TargetPolicy, literal_address, parse_url};
use super::timestamp::Timestamp;
use super::verifier::Verifier;

/// The last instant of the year 9999, which HTTP dates reach.
const LAST_SECOND: u64 = 253_402_300_799;
/// The last instant that an id holds.
const LAST_OF_IDS: i64 = (1 << 56) - 1;

/// Texts of the characters that parsers look at, among others.
fn odd_text() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,40}",
        "[0-9a-fx.:@/%\\[\\] ,;+TZ-]{0,40}",
        "(whsec_|whsk_|whpk_|v1,|http://|s\\.|a\\.|f\\.|msg_)?[A-Za-z0-9+/=.,_-]{0,100}",
        any::<String>(),
    ]
}

/// JSON texts with odd spacing, numbers of any length, and escapes of any kind. All of them are valid JSON.
fn json() -> impl Strategy<Value = String> {
    let number = "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,12})?([eE][+-]?[0-9]{1,5})?";
    let long = (180..320_usize, "(\\.5)?(e-?[0-9]{1,3})?");
    let long = long.prop_map(|(digits, rest)| format!("{}{rest}", "7".repeat(digits)));
    let part = prop_oneof![
        4 => "[ !#-\\[\\]-~äö🚀]{1,6}",
        1 => Just("\\\"".to_owned()),
        1 => Just("\\\\".to_owned()),
        1 => Just("\\n".to_owned()),
        1 => "\\\\u[0-9a-cA-C][0-9a-fA-F]{3}",
        1 => "\\\\u[dD][89abcdefABCDEF][0-9a-f]{2}",
        1 => Just("\\ud83d\\ude00".to_owned()),
    ];
    let text = vec(part, 0..6).prop_map(|parts| format!("\"{}\"", parts.concat()));
    let name = text.clone();
    let leaf = prop_oneof![
        select(vec!["null", "true", "false"]).prop_map(str::to_owned),
        number,
        long,
        text,
    ];
    let value = leaf.prop_recursive(6, 48, 5, move |inner| {
        let space = || select(vec!["", " ", "\n", "\t "]);
        let list = (vec(inner.clone(), 0..5), space());
        let list = list.prop_map(|(items, space)| format!("[{space}{}{space}]", items.join(&format!("{space},"))));
        let fields = vec((name.clone(), inner), 0..5);
        let object = (fields, space()).prop_map(|(fields, space)| {
            // Numbered, because a value keeps one field of several with the same name.
            let fields = fields.iter().enumerate();
            let fields =
                fields.map(|(number, (name, value))| format!("\"{number}{}{space}:{space}{value}", &name[1..]));
            let fields: Vec<_> = fields.collect();
            format!("{{{space}{}{space}}}", fields.join(","))
        });
        prop_oneof![list, object]
    });
    value.prop_map(|value| format!("{{\"a\":{value}}}"))
}

/// Returns how deep a value is nested.
fn depth_of(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth_of).max().unwrap_or(0),
        _ => 0,
    }
}

/// Returns whether a pattern fits, by trying each length for each star.
fn fits_naively(pattern: &str, text: &str) -> bool {
    match pattern.chars().next() {
        None => text.is_empty(),
        Some('*') => (0..=text.len()).any(|skipped| fits_naively(&pattern[1..], &text[skipped..])),
        Some(letter) => text.starts_with(letter) && fits_naively(&pattern[1..], &text[1..]),
    }
}

fn names() -> impl Strategy<Value = Vec<String>> {
    btree_set("[abc]{1,2}", 0..4).prop_map(|names| names.into_iter().collect())
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in odd_text(), other in odd_text(), now in any::<i64>()) {
        let _ = parse_retry_after(&text, Timestamp(now));
        let _ = text.parse::<RetrySchedule>();
        let _ = EndpointSecret::parse(&text);
        if let Ok(verifier) = Verifier::parse(&text) {
            let _ = verifier.signatures(&other);
        }
        let _ = Cursor::parse(&text);
        let _ = Timestamp::parse_rfc3339(&text);
        let _ = TargetPolicy::default().check_url(&text);
        let _ = text.parse::<Networks>();
        let _ = (check_identifier(&text), check_uid(&text, Prefix::Endpoint), check_content_type(&text));
        let _ = (check_header_name(&text), check_header_value(&text));
        let _ = (check_depth(&text), check_payload(&text));
        let _ = fits(&text, &other);
        let _ = Prefix::Message.instant_of(&text);
    }

    #[test]
    fn a_retry_after_of_seconds_or_of_any_http_date_is_read_back(
        seconds in any::<u64>(), date in 0..=LAST_SECOND, now in 0..LAST_SECOND, spaces in "[ \t]{0,3}",
    ) {
        let text = format!("{spaces}{seconds}{spaces}");
        prop_assert_eq!(parse_retry_after(&text, Timestamp(0)), Some(Duration::from_secs(seconds)));
        let written = httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(date));
        let at = Timestamp((now * 1_000_000) as i64);
        let wait = Duration::from_secs(date.saturating_sub(now));
        prop_assert_eq!(parse_retry_after(&written, at), Some(wait), "{}", written);
    }

    #[test]
    fn a_retry_schedule_is_read_back_and_its_waits_stay_within_a_fifth(
        waits in vec(0..=2_592_000_u64, 0..=50), jitter in -1.0..1.0_f64, asked in any::<Option<u32>>(),
    ) {
        let text = waits.iter().map(u64::to_string).collect::<Vec<_>>().join(",");
        let schedule: RetrySchedule = text.parse().unwrap();
        prop_assert_eq!(schedule.to_string().parse::<RetrySchedule>().unwrap(), schedule.clone());
        let asked = asked.map(|seconds| Duration::from_secs(seconds.into()));
        for (number, wait) in waits.iter().enumerate() {
            let wait = Duration::from_secs(*wait);
            let delay = schedule.next_delay(number as u32 + 1, asked, jitter).unwrap();
            let floor = asked.unwrap_or_default().min(Duration::from_secs(86_400));
            prop_assert!(delay >= floor && delay >= wait.mul_f64(0.799));
            prop_assert!(delay <= floor.max(wait.mul_f64(1.201)));
        }
        prop_assert_eq!(schedule.next_delay(waits.len() as u32 + 1, asked, jitter), None);
    }

    #[test]
    fn a_symmetric_secret_of_24_to_75_bytes_is_read_back_and_no_other(key in vec(any::<u8>(), 0..100)) {
        for encoded in [STANDARD.encode(&key), STANDARD_NO_PAD.encode(&key)] {
            let parsed = EndpointSecret::parse(&format!("whsec_{encoded}"));
            prop_assert_eq!(parsed.is_ok(), (24..=75).contains(&key.len()));
            if let Ok(secret) = parsed {
                prop_assert_eq!(&secret.to_wire(), &format!("whsec_{}", STANDARD.encode(&key)));
                prop_assert!(EndpointSecret::parse(&secret.to_private()).unwrap() == secret);
            }
        }
    }

    #[test]
    fn an_asymmetric_secret_is_read_back_and_shows_its_public_half_alone(seed in any::<[u8; 32]>(), bit in 0..256_usize) {
        let public = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap().public_key().as_ref().to_vec();
        let text = format!("whsk_{}", STANDARD.encode([&seed[..], &public].concat()));
        let secret = EndpointSecret::parse(&text).unwrap();
        prop_assert_eq!(secret.to_private(), text);
        prop_assert_eq!(secret.to_wire(), format!("whpk_{}", STANDARD.encode(&public)));
        let mut other = public;
        other[bit / 8] ^= 1 << (bit % 8);
        let wrong = format!("whsk_{}", STANDARD.encode([&seed[..], &other].concat()));
        prop_assert!(EndpointSecret::parse(&wrong).is_err());
    }

    #[test]
    fn a_signature_is_that_of_the_public_library_and_verifies_until_a_byte_changes(
        key in vec(any::<u8>(), 24..=75), seed in any::<[u8; 32]>(), id in "[a-zA-Z0-9_]{1,40}",
        seconds in 0..LAST_SECOND as i64, body in any::<String>(), changed in any::<prop::sample::Index>(),
    ) {
        let symmetric = EndpointSecret::Symmetric(key);
        let public = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap().public_key().as_ref().to_vec();
        let private = format!("whsk_{}", STANDARD.encode([&seed[..], &public].concat()));
        let secrets = [symmetric, EndpointSecret::parse(&private).unwrap()];
        let header = sign(&secrets, &id, seconds, body.as_bytes());
        let reference = Webhook::new(&secrets[0].to_wire()).unwrap().sign(&id, seconds, body.as_bytes()).unwrap();
        prop_assert_eq!(header.split(' ').next(), Some(reference.as_str()));
        let signed = format!("{id}.{seconds}.{body}").into_bytes();
        for secret in &secrets {
            let verifier = Verifier::parse(&secret.to_wire()).unwrap();
            let signatures = verifier.signatures(&header).unwrap();
            prop_assert!(verifier.holds(&signatures, &signed));
            let mut other = signed.clone();
            let at = changed.index(other.len());
            other[at] ^= 1;
            prop_assert!(!verifier.holds(&signatures, &other));
        }
        let mut headers = HeaderMap::new();
        headers.insert("webhook-signature", header.parse().unwrap());
        prop_assert_eq!(headers["webhook-signature"].to_str().unwrap(), header);
    }

    #[test]
    fn a_cursor_is_read_back_and_has_passed_what_is_not_after_it(
        epoch in 0..1_i64 << 15, number in 0..1_i64 << TX_BITS, other in 0..1_i64 << TX_BITS, at in 0..LAST_OF_IDS,
        includes in any::<bool>(), identity in any::<String>(),
    ) {
        let message_id = IdSource::default().next(Prefix::Message, Timestamp(at));
        let tx = (epoch << TX_BITS) | number;
        let place = Place { mark: mark(&identity), tx, message_id: message_id.clone(), includes };
        prop_assert_eq!(place.instant(), Timestamp(at));
        let cursor = Cursor::At(place);
        prop_assert_eq!(Cursor::parse(&cursor.to_text()), Some(cursor.clone()));
        let since = Cursor::since(Timestamp(at));
        prop_assert_eq!(Cursor::parse(&since.to_text()), Some(since.clone()));
        prop_assert!(!since.has_passed(tx, &message_id));
        prop_assert_eq!(cursor.has_passed(tx, &message_id), !includes);
        let other = (epoch << TX_BITS) | other;
        if other != tx {
            prop_assert_eq!(cursor.has_passed(other, &message_id), other < tx);
        }
    }

    #[test]
    fn a_cursor_that_is_read_is_written_as_it_was(text in odd_text()) {
        if let Some(cursor) = Cursor::parse(&text) {
            prop_assert_eq!(Cursor::parse(&cursor.to_text()), Some(cursor));
        }
    }

    #[test]
    fn an_instant_is_read_back_in_utc_and_in_every_zone(
        micros in -62_135_596_800_000_000..=(LAST_SECOND as i64 * 1_000_000), zone in -23 * 60..=23 * 60_i32,
    ) {
        let at = Timestamp(micros);
        prop_assert_eq!(Timestamp::parse_rfc3339(&at.to_rfc3339()), Ok(at));
        let utc = chrono::DateTime::from_timestamp_micros(micros).unwrap();
        let local = utc.with_timezone(&chrono::FixedOffset::east_opt(zone * 60).unwrap());
        let text = local.to_rfc3339();
        // Zones move an instant at the ends of the range out of the years of four digits, which RFC 3339 has.
        if text.as_bytes()[4] == b'-' {
            prop_assert_eq!(Timestamp::parse_rfc3339(&text), Ok(at), "{}", text);
        }
    }

    #[test]
    fn ids_are_in_the_order_of_their_instants_and_name_them(first in 0..LAST_OF_IDS, second in 0..LAST_OF_IDS) {
        let ids = [first, second].map(|at| IdSource::default().next(Prefix::Delivery, Timestamp(at)));
        for (id, at) in ids.iter().zip([first, second]) {
            prop_assert_eq!(Prefix::Delivery.instant_of(id), Some(Timestamp(at)));
            prop_assert!(Prefix::Delivery.first_id_at(Timestamp(at)) <= *id);
            prop_assert!(check_identifier(id).is_ok() && check_uid(id, Prefix::Delivery).is_err());
            prop_assert!(check_uid(id, Prefix::Message).is_ok());
        }
        if first != second {
            prop_assert_eq!(ids[0] < ids[1], first < second);
        }
    }

    #[test]
    fn an_identifier_is_of_its_characters_and_its_length(text in odd_text(), good in "[a-zA-Z0-9._-]{1,256}") {
        prop_assert!(check_identifier(&good).is_ok());
        let all = text.chars().all(|letter| matches!(letter, 'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.'));
        prop_assert_eq!(check_identifier(&text).is_ok(), all && (1..=256).contains(&text.len()));
    }

    #[test]
    fn a_header_that_is_accepted_can_be_sent(name in odd_text(), value in odd_text()) {
        if check_header_name(&name).is_ok() {
            prop_assert!(hyper::header::HeaderName::try_from(&name).is_ok());
        }
        if check_header_value(&value).is_ok() {
            prop_assert!(hyper::header::HeaderValue::try_from(&value).is_ok());
        }
        if check_content_type(&value).is_ok() {
            prop_assert!(hyper::header::HeaderValue::try_from(&value).is_ok());
        }
    }

    #[test]
    fn a_filter_takes_what_a_plain_search_takes(
        types in prop::option::of(names()), channels in prop::option::of(names()), event_type in "[abc]{1,2}", on in names(),
    ) {
        let filter = EndpointFilter { event_types: types.as_deref(), channels: channels.as_deref() };
        let mut wanted = types.as_ref().is_none_or(|types| types.contains(&event_type));
        if let Some(channels) = &channels {
            let mut shared = false;
            for channel in channels {
                shared |= on.contains(channel);
            }
            wanted &= shared;
        }
        prop_assert_eq!(accepts(&filter, &event_type, &on), wanted);
    }

    #[test]
    fn a_pattern_fits_as_a_plain_search_does(pattern in "[ab*]{0,7}", text in "[ab]{0,8}") {
        prop_assert_eq!(fits(&pattern, &text), fits_naively(&pattern, &text));
    }

    #[test]
    fn a_payload_that_serde_json_reads_is_taken_and_no_other(json in json()) {
        // An incoming body is held as such a text, whose bytes are kept.
        let kept: &RawValue = serde_json::from_str(&json).unwrap();
        prop_assert_eq!(kept.get(), &json);
        let read = serde_json::from_str::<Value>(&json);
        prop_assert_eq!(check_payload(&json).is_ok(), read.is_ok(), "{}: {:?}", json, read.err());
    }

    #[test]
    fn a_payload_is_as_deep_as_serde_json_finds_it(json in json(), levels in 90..110_usize) {
        let wrapped = format!("{}{json}{}", "[".repeat(levels), "]".repeat(levels));
        if let Ok(value) = serde_json::from_str::<Value>(&json) {
            prop_assert_eq!(check_depth(&wrapped).is_ok(), levels + depth_of(&value) <= DEEPEST);
        }
    }

    #[test]
    fn an_ipv4_address_is_judged_alike_in_every_spelling(address in any::<u32>()) {
        let (ip, [a, b, c, d]) = (Ipv4Addr::from(address), address.to_be_bytes());
        let policy = TargetPolicy::default();
        let rest = address & 0xff_ffff;
        for host in [
            ip.to_string(), address.to_string(), format!("{address:#x}"), format!("0{address:o}"),
            format!("{a}.{rest}"), format!("{a:#x}.{b:#x}.{c:#x}.{d:#x}"), format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
            format!("{a}.{b}.{}", address & 0xffff), format!("{ip}."), format!("%{:02x}{}", ip.to_string().as_bytes()[0], &ip.to_string()[1..]),
            format!("[::ffff:{ip}]"),
        ] {
            let url = format!("http://{host}/");
            let parsed = parse_url(&url).unwrap();
            let read = literal_address(&parsed).map(|ip| ip.to_canonical());
            prop_assert_eq!(read, Some(IpAddr::V4(ip)), "{}", url);
            prop_assert_eq!(policy.check_url(&url).is_ok(), policy.allows(ip.into()), "{}", url);
        }
    }

    #[test]
    fn an_address_that_carries_another_is_never_allowed_beyond_it(address in any::<u32>(), more in any::<u64>()) {
        let policy = TargetPolicy::default();
        let (ip, number) = (Ipv4Addr::from(address), u128::from(address));
        let carriers = [
            (0xffff << 32) | number,
            (0x64_ff9b << 96) | number,
            (0x2002 << 112) | (number << 80) | u128::from(more),
            (0x2a00_1450 << 96) | (0x5efe << 32) | number,
        ];
        for carrier in carriers.map(Ipv6Addr::from) {
            prop_assert!(!policy.allows(carrier.into()) || policy.allows(ip.into()), "{} {}", carrier, ip);
        }
    }

    #[test]
    fn an_address_within_a_refused_network_is_refused_whatever_is_allowed(address in any::<u32>(), bits in 0..=32_u8) {
        let ip = Ipv4Addr::from(address);
        let policy: TargetPolicy = "0.0.0.0/0,::/0".parse().unwrap();
        prop_assert!(policy.allows(ip.into()));
        let refusing = policy.refusing(format!("{ip}/{bits}").parse().unwrap());
        prop_assert!(!refusing.allows(ip.into()));
        prop_assert!(!refusing.allows(IpAddr::V6(ip.to_ipv6_mapped())));
    }
}
