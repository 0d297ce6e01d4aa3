/** Checks a signature as Standard Webhooks defines it, in the browser, and says why it does not hold. Sends nothing. */

import { duration } from "../parts.js";

/** @typedef {{kind: string, title: string, text: string, id?: string}} Verdict */

const TOLERANCE = 300;
const utf8 = new TextEncoder();

/** Headers of a pasted text: a JSON object, or lines, perhaps with the quotes and the -H of a curl command. */
function readHeaders(text) {
	/** @type {Record<string, string>} */
	const found = {};
	try {
		for (const [name, value] of Object.entries(JSON.parse(text))) found[name.toLowerCase()] = String(value);
		return found;
	} catch {
		// No JSON.
	}
	for (const line of text.split(/\r?\n/)) {
		const match = /^\s*(?:-H\s+|--header\s+)?['"]?([\w-]+)['"]?\s*[:=]\s*(.*?)\s*\\?$/.exec(line);
		if (match) found[match[1].toLowerCase()] = match[2].replace(/^['"]|['"],?$/g, "").trim();
	}
	return found;
}

/**
 * Checks a request. `certain`: the secret is known to be the endpoint's.
 *
 * @param {{secret: string, headers: string, body: string, certain?: boolean}} request
 * @returns {Promise<Verdict>}
 */
export async function check({ secret, headers, body, certain }) {
	const all = readHeaders(headers), now = Date.now() / 1000;
	const values = ["id", "timestamp", "signature"].map((name) => all[`webhook-${name}`] ?? all[`svix-${name}`]);
	const missing = ["webhook-id", "webhook-timestamp", "webhook-signature"].filter((_, i) => !values[i]);
	const [id, time, signatures] = values;
	const verdict = (kind, title, text) => ({ kind, title, text, id });
	if (missing.length) {
		return verdict("missing", "Missing header", `All three headers are needed. Missing: ${missing.join(", ")}.`);
	}
	if (!/^\d{1,12}$/.test(time)) {
		return verdict("input", "Unreadable timestamp", `It must be seconds since 1970, such as ${Math.floor(now)}.`);
	}
	const key = await signer(secret.trim());
	if (typeof key === "string") return verdict("input", "Unreadable secret", key);
	const given = signatures.split(/\s+/).filter((part) => part.startsWith(`${key.version},`))
		.map((part) => bytes(part.slice(key.version.length + 1)));
	if (given.length === 0) {
		return verdict("secret", "Wrong secret", `No signature begins with ${key.version}, as this kind of secret makes.`);
	}
	const holds = async (text) => {
		const signed = utf8.encode(`${id}.${time}.${text}`);
		for (const signature of given) if (signature && await key.verify(signature, signed)) return true;
		return false;
	};
	if (await holds(body)) return age(Number(time), now, verdict);
	for (const [what, text] of variants(body)) {
		if (text === body || !await holds(text)) continue;
		const hint = "Sign the raw bytes of the request, before anything parses them.";
		return verdict("body", "Altered body", `The secret is right, and the signature holds once ${what}. ${hint}`);
	}
	if (certain) {
		return verdict(
			"body",
			"Altered body",
			"The secret is the endpoint's own, so body, id or timestamp are not what was sent; or it went to another endpoint, or the secret was replaced since.",
		);
	}
	return verdict(
		"either",
		"Wrong secret or altered body",
		"The signature does not hold for this secret and this body. One of them is not what was used to sign.",
	);
}

function age(time, now, verdict) {
	const seconds = Math.round(now - time), much = duration(seconds * 1000);
	if (Math.abs(seconds) <= TOLERANCE) {
		return verdict("valid", "The signature is valid", "Secret, body, id and timestamp fit together.");
	}
	return seconds > 0
		? verdict(
			"old",
			"Old timestamp",
			`The signature is right, but was made ${much} ago. Receivers refuse what is older than 5 minutes, so that nobody can send it again; for a request that you kept this is as it should be.`,
		)
		: verdict("old", "Timestamp in the future", `Its time is ${much} ahead. Is the clock of this computer right?`);
}

/** What programs do to a body, undone. */
function variants(body) {
	/** @type {[string, string][]} */
	const found = [
		["the line breaks at its end are removed", body.replace(/[\r\n]+$/, "")],
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
	const [version, algorithm] = prefix === "whpk_" ? ["v1a", "Ed25519"] : ["v1", "HMAC"];
	try {
		const made = await subtle.importKey("raw", key, { name: algorithm, hash: "SHA-256" }, false, ["verify"]);
		return {
			version,
			/** @param {Uint8Array<ArrayBuffer>} signature @param {Uint8Array<ArrayBuffer>} signed */
			verify: (signature, signed) => subtle.verify(algorithm, made, signature, signed),
		};
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
