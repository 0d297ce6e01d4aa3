/**
 * Checks a signature as Standard Webhooks defines it, in the browser, and says why it does not hold. Sends
 * nothing anywhere.
 *
 * @module
 */

import { duration } from "../parts.js";

/** @typedef {{kind: "valid" | "old" | "missing" | "secret" | "body" | "either" | "input", title: string, text: string, id?: string}} Verdict */

const TOLERANCE = 300;
const utf8 = new TextEncoder();

/** Headers of a pasted text: lines, or a JSON object. */
export function readHeaders(text) {
	/** @type {Record<string, string>} */
	const found = {};
	try {
		for (const [name, value] of Object.entries(JSON.parse(text))) found[name.toLowerCase()] = String(value);
		return found;
	} catch {
		// Not JSON: lines, perhaps with the quotes and the -H of a curl command.
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
 * @param {number} now seconds
 * @returns {Promise<Verdict>}
 */
export async function check({ secret, headers, body, certain }, now = Date.now() / 1000) {
	const all = readHeaders(headers);
	const [id, time, signatures] = ["id", "timestamp", "signature"].map((name) =>
		all[`webhook-${name}`] ?? all[`svix-${name}`] ?? ""
	);
	const missing = [["id", id], ["timestamp", time], ["signature", signatures]].filter(([, value]) => !value)
		.map(([name]) => `webhook-${name}`);
	if (missing.length) {
		return {
			kind: "missing",
			title: "Missing header",
			text: `${missing.join(", ")} ${
				missing.length > 1 ? "are" : "is"
			} missing. All three headers are needed: webhook-id, webhook-timestamp and webhook-signature.`,
		};
	}
	if (!/^\d{1,12}$/.test(time)) {
		return {
			kind: "input",
			title: "Unreadable timestamp",
			text: `webhook-timestamp must be seconds since 1970, such as ${Math.floor(now)}. It is ${time}.`,
		};
	}
	const key = await signer(secret.trim());
	if (typeof key === "string") return { kind: "input", title: "Unreadable secret", text: key };
	const given = signatures.split(/\s+/).filter((part) => part.startsWith(`${key.version},`)).map((part) =>
		bytes(part.slice(key.version.length + 1))
	);
	if (given.length === 0) {
		return {
			kind: "secret",
			title: "Wrong secret",
			text: `No signature in webhook-signature begins with ${key.version}, which this kind of secret makes.`,
		};
	}
	const holds = async (text) => {
		const signed = utf8.encode(`${id}.${time}.${text}`);
		for (const signature of given) if (signature && await key.verify(signature, signed)) return true;
		return false;
	};
	if (await holds(body)) return age(Number(time), now, id);
	for (const [what, text] of variants(body)) {
		if (text !== body && await holds(text)) {
			return {
				kind: "body",
				title: "Altered body",
				text:
					`The secret is right, and the signature holds once ${what}. Sign the raw bytes of the request, before anything parses them.`,
				id,
			};
		}
	}
	if (certain) {
		return {
			kind: "body",
			title: "Altered body",
			text:
				"The secret is the endpoint's own, so the body, the id or the timestamp is not what was sent. Was the message sent to another endpoint, or the secret replaced since?",
			id,
		};
	}
	return {
		kind: "either",
		title: "Wrong secret or altered body",
		text:
			"The signature does not hold for this secret and this body. One of them is not what was used to sign.",
		id,
	};
}

/** @returns {Verdict} */
function age(time, now, id) {
	const seconds = Math.round(now - time), much = duration(seconds * 1000);
	if (Math.abs(seconds) <= TOLERANCE) {
		return {
			kind: "valid",
			title: "The signature is valid",
			text: "Secret, body, id and timestamp fit together.",
			id,
		};
	}
	return {
		kind: "old",
		title: seconds > 0 ? "Old timestamp" : "Timestamp in the future",
		text: seconds > 0
			? `The signature is right, but it was made ${much} ago. Receivers refuse what is older than 5 minutes, so that nobody can send it a second time. For a request that you kept from then this is as it should be.`
			: `The signature is right, but its time is ${much} ahead. Is the clock of this computer right?`,
		id,
	};
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
	];
	// Outside of strings, so that nothing but the layout changes.
	const tight = body.replace(/("(?:[^"\\]|\\.)*")|\s+/g, (_, text) => text ?? "");
	found.push(["its JSON is written without spaces", tight]);
	try {
		found.push(["its JSON is written by JSON.stringify", JSON.stringify(JSON.parse(body))]);
	} catch {
		// No JSON.
	}
	return found;
}

/**
 * The check of one secret, or why it cannot be one.
 *
 * @param {string} secret
 * @returns {Promise<{version: string, verify: (signature: Uint8Array<ArrayBuffer>, signed: Uint8Array<ArrayBuffer>) => Promise<boolean>} | string>}
 */
async function signer(secret) {
	const { subtle } = crypto;
	if (!subtle) {
		return "Browsers give cryptography to pages with HTTPS alone. Open this page with https://, or use one of the samples below.";
	}
	const [, prefix, text] = /^(whsec_|whpk_)?(.*)$/s.exec(secret) ?? [];
	const key = bytes(text);
	if (!key?.length) {
		return "A secret is whsec_ and a text of letters, digits, + and /, as the page of the endpoint shows it.";
	}
	if (prefix !== "whpk_") {
		const hmac = await subtle.importKey("raw", key, { name: "HMAC", hash: "SHA-256" }, false, ["verify"]);
		return { version: "v1", verify: (signature, signed) => subtle.verify("HMAC", hmac, signature, signed) };
	}
	try {
		const edwards = await subtle.importKey("raw", key, "Ed25519", false, ["verify"]);
		return {
			version: "v1a",
			verify: (signature, signed) => subtle.verify("Ed25519", edwards, signature, signed),
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
