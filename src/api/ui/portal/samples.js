/** How to check a signature in eight languages with their standard libraries (Rust: three crates). */

import { fill, h } from "../dom.js";
import { code } from "../json.js";
import { buttons, copy, field, select } from "../parts.js";

let chosen = "Node / TypeScript";

export function samples() {
	const choice = select(Object.keys(SAMPLES), chosen);
	const place = h("div.sample");
	const draw = () => {
		chosen = choice.value;
		fill(place, h("div.bar", buttons(copy(SAMPLES[chosen], "Code"))), code(SAMPLES[chosen], chosen));
	};
	choice.addEventListener("change", draw);
	draw();
	return [
		h("p", "Give it the raw bytes of the body. A message may come twice: remember its webhook-id."),
		field("Language", choice),
		place,
	];
}

const SAMPLES = {
	"Node / TypeScript": `import { createHmac, timingSafeEqual } from "node:crypto";

export function verify(secret: string, headers: Record<string, string>, body: string) {
  const id = headers["webhook-id"], time = headers["webhook-timestamp"];
  if (!(Math.abs(Date.now() / 1000 - Number(time)) <= 300)) throw new Error("too old");
  const key = Buffer.from(secret.replace("whsec_", ""), "base64");
  const digest = createHmac("sha256", key).update(\`\${id}.\${time}.\${body}\`).digest("base64");
  const wanted = Buffer.from(\`v1,\${digest}\`);
  const valid = headers["webhook-signature"].split(" ").map((part) => Buffer.from(part))
    .some((part) => part.length === wanted.length && timingSafeEqual(part, wanted));
  if (!valid) throw new Error("wrong signature");
  return JSON.parse(body);
}
`,
	Python: `import base64, hashlib, hmac, json, time


def verify(secret: str, headers, body: bytes):
    id, stamp = headers["webhook-id"], headers["webhook-timestamp"]
    if abs(time.time() - int(stamp)) > 300:
        raise ValueError("too old")
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, f"{id}.{stamp}.".encode() + body, hashlib.sha256).digest()
    wanted = b"v1," + base64.b64encode(digest)
    given = headers["webhook-signature"].encode().split(b" ")
    if not any(hmac.compare_digest(wanted, part) for part in given):
        raise ValueError("wrong signature")
    return json.loads(body)
`,
	Go: `package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"
)

func Verify(secret string, header http.Header, body []byte) bool {
	id, stamp := header.Get("webhook-id"), header.Get("webhook-timestamp")
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil || time.Since(time.Unix(seconds, 0)).Abs() > 5*time.Minute {
		return false
	}
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(secret, "whsec_"))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(id + "." + stamp + "."))
	mac.Write(body)
	wanted := []byte("v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	for _, given := range strings.Fields(header.Get("webhook-signature")) {
		if hmac.Equal([]byte(given), wanted) {
			return true
		}
	}
	return false
}
`,
	Rust: `// base64 = "0.22", hmac = "0.12", sha2 = "0.10"
use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use std::time::{SystemTime, UNIX_EPOCH};

pub fn verify(secret: &str, id: &str, time: &str, signatures: &str, body: &[u8]) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let recent = time.parse::<u64>().is_ok_and(|sent| now.abs_diff(sent) <= 300);
    let Ok(key) = STANDARD.decode(secret.trim_start_matches("whsec_")) else { return false };
    let Ok(mut mac) = Hmac::<sha2::Sha256>::new_from_slice(&key) else { return false };
    mac.update(format!("{id}.{time}.").as_bytes());
    mac.update(body);
    let given = signatures.split(' ').filter_map(|part| part.strip_prefix("v1,"));
    let mut decoded = given.filter_map(|part| STANDARD.decode(part).ok());
    recent && decoded.any(|signature| mac.clone().verify_slice(&signature).is_ok())
}
`,
	Java: `import static java.nio.charset.StandardCharsets.UTF_8;

import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.time.Instant;
import java.util.Base64;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

public final class Webhook {
    public static boolean verify(
            String secret, String id, String time, String signatures, byte[] body)
            throws GeneralSecurityException {
        long age = Instant.now().getEpochSecond() - Long.parseLong(time);
        byte[] key = Base64.getDecoder().decode(secret.replaceFirst("^whsec_", ""));
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(key, "HmacSHA256"));
        mac.update((id + "." + time + ".").getBytes(UTF_8));
        String wanted = "v1," + Base64.getEncoder().encodeToString(mac.doFinal(body));
        boolean valid = false;
        for (String given : signatures.split(" ")) {
            valid |= MessageDigest.isEqual(wanted.getBytes(UTF_8), given.getBytes(UTF_8));
        }
        return valid && Math.abs(age) <= 300;
    }
}
`,
	"C#": `using System;
using System.Linq;
using System.Security.Cryptography;
using System.Text;

public static class Webhook
{
    public static bool Verify(string secret, string id, string time, string signatures, byte[] body)
    {
        if (!long.TryParse(time, out var sent)) return false;
        if (Math.Abs(DateTimeOffset.UtcNow.ToUnixTimeSeconds() - sent) > 300) return false;
        var key = Convert.FromBase64String(secret.Replace("whsec_", ""));
        var signed = Encoding.UTF8.GetBytes($"{id}.{time}.").Concat(body).ToArray();
        var digest = Convert.ToBase64String(HMACSHA256.HashData(key, signed));
        var wanted = Encoding.UTF8.GetBytes("v1," + digest);
        return signatures.Split(' ').Any(given =>
            CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(given), wanted));
    }
}
`,
	Ruby: `require "json"
require "openssl"

def verify(secret, headers, body)
  id, time, given = %w[id timestamp signature].map { |name| headers.fetch("webhook-#{name}") }
  raise "too old" if (Time.now.to_i - Integer(time, 10)).abs > 300

  key = secret.delete_prefix("whsec_").unpack1("m0")
  wanted = "v1," + [OpenSSL::HMAC.digest("SHA256", key, "#{id}.#{time}.#{body}")].pack("m0")
  valid = given.split.any? { |part| OpenSSL.secure_compare(part, wanted) }
  raise "wrong signature" unless valid

  JSON.parse(body)
end
`,
	PHP: `<?php

function verify(string $secret, string $id, string $time, string $signatures, string $body): bool
{
    if (!ctype_digit($time) || abs(time() - (int) $time) > 300) {
        return false;
    }
    $key = base64_decode(preg_replace('/^whsec_/', '', $secret));
    $wanted = 'v1,' . base64_encode(hash_hmac('sha256', "$id.$time.$body", $key, true));
    foreach (explode(' ', $signatures) as $given) {
        if (hash_equals($wanted, $given)) {
            return true;
        }
    }
    return false;
}
`,
};
