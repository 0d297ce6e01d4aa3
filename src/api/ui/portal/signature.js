/** Checks a Standard Webhooks signature in the browser, and says why it does not hold. Sends nothing. */

import { duration } from "../parts.js";

const TOLERANCE = 300;
const utf8 = new TextEncoder();

/** Headers of a pasted text: JSON, or lines, perhaps with the quotes and the -H of a curl command. */
function readHeaders(text) {
	const line = /^\s*(?:-H\s+|--header\s+|\{\s*)?['"]?([\w-]+)['"]?\s*[:=]\s*['"]?(.*?)\s*['"]?[,}\\\s]*$/;
	const found = text.split(/\r?\n|,\s*(?=")/).map((text) => line.exec(text)).filter((match) => match !== null);
	return new Map(found.map(([, name, value]) => [name.toLowerCase(), value]));
}

/** Checks a request. `certain`: the secret is known to be the endpoint's. */
export async function check({ secret, headers, body, certain }) {
	const all = readHeaders(headers), now = Date.now() / 1000;
	const names = ["id", "timestamp", "signature"].map((name) => `webhook-${name}`);
	const [id, time, signatures] = names.map((name) => all.get(name) ?? all.get(name.replace("webhook", "svix")) ?? "");
	const verdict = (title, text, valid = false) => ({ valid, title, text, id });
	const missing = names.filter((_, i) => ![id, time, signatures][i]);
	if (missing.length) return verdict("Missing header", `All three are needed. Missing: ${missing.join(", ")}.`);
	if (!/^\d{1,12}$/.test(time)) {
		return verdict("Unreadable timestamp", `It must be seconds since 1970, such as ${Math.floor(now)}.`);
	}
	const key = await signer(secret.trim());
	if (typeof key === "string") return verdict("Unreadable secret", key);
	const { version, verify } = key;
	const given = signatures.split(/\s+/).filter((part) => part.startsWith(`${version},`))
		.map((part) => part.endsWith("=") && bytes(part.slice(version.length + 1)));
	if (!given.length) {
		return /\bv1a?,/.test(signatures)
			? verdict("Wrong secret", `No signature begins with ${version}, as this kind of secret makes.`)
			: verdict("Unreadable signature", "No signature of a known version is there: v1 and v1a are known.");
	}
	const holds = async (text) => {
		const signed = utf8.encode(`${id}.${time}.${text}`);
		for (const signature of given) if (signature && await verify(signature, signed)) return true;
		return false;
	};
	if (await holds(body)) {
		const seconds = Math.round(now - Number(time)), much = duration(seconds * 1000);
		if (Math.abs(seconds) <= TOLERANCE) {
			return verdict("The signature is valid", "Secret, body, id and timestamp fit together.", true);
		}
		return seconds > 0
			? verdict(
				"Old timestamp",
				`The signature is right, but was made ${much} ago. Receivers refuse what is older than 5 minutes, so that nobody can send it again.`,
			)
			: verdict("Timestamp in the future", `Its time is ${much} ahead. Is the clock of this computer right?`);
	}
	for (const [what, text] of variants(body)) {
		if (text === body || !await holds(text)) continue;
		const hint = "Sign the raw bytes of the request, before anything parses them.";
		return verdict("Altered body", `The secret is right, and the signature holds once ${what}. ${hint}`);
	}
	return certain
		? verdict(
			"Altered body",
			"The secret is the endpoint's own, so body, id or timestamp are not what was sent; or it went to another endpoint, or the secret was replaced since.",
		)
		: verdict(
			"Wrong secret or altered request",
			"Secret, body, id or timestamp are not those that were signed. Take all from one request, and the secret of its endpoint as it is now.",
		);
}

/** What programs do to a body, undone. */
function variants(body) {
	const found = [
		["the space around it is removed", body.trim()],
		["a line break at its end is added", `${body}\n`],
		["its line breaks are those of Unix", body.replaceAll("\r\n", "\n")],
		["its line breaks are those of Windows", body.replaceAll("\n", "\r\n")],
		// Outside of strings, so that nothing but the layout changes.
		["its JSON is written without spaces", body.replace(/("(?:[^"\\]|\\.)*")|\s+/g, (_, text) => text ?? "")],
	];
	try {
		found.push(["its JSON is written by JSON.stringify", JSON.stringify(JSON.parse(body))]);
	} catch {
		// No JSON.
	}
	return found;
}

/** The check of one secret, or why it cannot be one. */
async function signer(secret) {
	const { subtle } = crypto;
	if (!subtle) return "Browsers give cryptography to pages with HTTPS alone: open this one with https://.";
	const [, prefix, text] = /^(whsec_|whpk_)?(.*)$/s.exec(secret) ?? [];
	const key = bytes(text);
	if (!key?.length) return "A secret is whsec_ and letters, digits, + and /, as the page of the endpoint shows it.";
	if (text.length % 4) return "Padding is missing: = at its end.";
	const [version, algorithm] = prefix === "whpk_" ? ["v1a", "Ed25519"] : ["v1", "HMAC"];
	try {
		const made = await subtle.importKey("raw", key, { name: algorithm, hash: "SHA-256" }, false, ["verify"]);
		const verify = (signature, signed) => subtle.verify(algorithm, made, signature, signed);
		return { version, verify };
	} catch {
		return "This browser cannot check Ed25519, or the key is not complete.";
	}
}

function bytes(base64) {
	try {
		return Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
	} catch {
		return null;
	}
}
