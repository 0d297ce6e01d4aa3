/**
 * Checks a pasted request in the browser, and shows how to check requests in programs.
 *
 * @module
 */

import { ApiError, path } from "../api.js";
import { fill, h } from "../dom.js";
import { member } from "../json.js";
import { action, field, form, input, section, select } from "../parts.js";
import { head } from "../screens/shared.js";
import { samples } from "./samples.js";
import { nameOf } from "./shared.js";
import { check } from "./signature.js";

/** @typedef {import("../portal.js").Context} Context */
/** @typedef {import("./signature.js").Verdict} Verdict */

const HEADERS = "webhook-id: msg_…\nwebhook-timestamp: 1700000000\nwebhook-signature: v1,…";

/** @param {Context} context */
export function verify(context) {
	const { title } = context;
	title("Verify");
	const secret = input({ class: "mono", required: true, placeholder: "whsec_…", maxlength: 200 });
	const headers = h("textarea", { class: "mono", required: true, spellcheck: "false", placeholder: HEADERS });
	const body = h("textarea", { class: "mono", spellcheck: "false" });
	const result = h("div", { class: "result", role: "status" });
	const own = ownSecrets(context, secret);
	const request = () => ({
		secret: secret.value,
		headers: headers.value,
		body: body.value,
		certain: own.certain(),
	});
	const run = async () => {
		const verdict = await check(request());
		const compare = verdict.id?.startsWith("msg_") && (verdict.kind === "either" || verdict.kind === "body");
		fill(
			result,
			h(
				"div",
				{ class: verdict.kind === "valid" ? "done" : "note" },
				h("p", h("strong", verdict.title)),
				h("p", verdict.text),
			),
			compare &&
				h(
					"div",
					{ class: "tight" },
					action(
						"Compare with what was sent",
						async () => fill(result, told(await compared(context, verdict.id ?? "", request()))),
					),
					h("p", { class: "hint" }, "Asks for the message by its id. Your secret and your body stay here."),
				),
		);
	};
	return h(
		"div",
		head("Verify", []),
		section(
			"Check a request",
			h(
				"p",
				"Paste what your server received. It is checked in this browser, and nothing of it leaves this page.",
			),
			form(
				{ button: "Verify", run },
				own.node,
				field("Secret", secret),
				field("Headers", headers, "One a line. Only the three that begin with webhook- matter."),
				field("Body", body, "As it was received, byte for byte."),
			),
			result,
		),
		section("In your program", ...samples()),
	);
}

function told({ title, text }) {
	return h("div", { class: "note" }, h("p", h("strong", title)), h("p", text));
}

/** A choice of endpoints whose secret is filled in. */
function ownSecrets({ api, app, can, signal }, secret) {
	/** @type {string | null} */
	let known = null;
	const certain = () => known !== null && secret.value.trim() === known;
	if (!can("secret")) return { node: null, certain };
	const choice = select([["", "I enter it myself"]]);
	const node = h("div", { hidden: true }, field("Use the secret of", choice));
	api.all(`${app}/endpoint`, { signal, most: 250 }).then(({ data }) => {
		choice.append(
			...data.map((endpoint) =>
				h("option", { value: endpoint.id }, `${nameOf(endpoint)} · ${endpoint.url.slice(0, 80)}`)
			),
		);
		node.hidden = data.length === 0;
	}).catch(() => {});
	choice.addEventListener("change", async () => {
		known = null;
		secret.value = "";
		if (!choice.value) return;
		const wanted = choice.value;
		try {
			const { key } = await api.get(`${app}/endpoint/${wanted}/secret`, { signal });
			if (choice.value === wanted) secret.value = known = key;
		} catch {
			choice.value = "";
		}
	});
	return { node, certain };
}

/**
 * Tells a wrong secret from an altered body by the message as it was sent.
 *
 * @param {Context} context
 * @param {string} id
 * @param {{secret: string, headers: string, body: string}} request
 */
async function compared({ api, app, signal }, id, request) {
	let sent;
	try {
		const { data, text } = await api.call("GET", app + path`/msg/${id}`, { signal });
		if (data.payload?.expired === true) {
			return {
				title: "Not known",
				text: "The content of this message is no longer kept, so there is nothing to compare with.",
			};
		}
		sent = data.payload?.rawPayload ?? member(text, "payload") ?? "";
	} catch (error) {
		if (!(error instanceof ApiError) || error.status !== 404) throw error;
		return {
			title: "Not sent from here",
			text: `There is no message ${id}. Is webhook-id what was received, and is this the right account?`,
		};
	}
	const right = ["valid", "old"].includes((await check({ ...request, body: sent })).kind);
	if (sent === request.body) {
		return {
			title: "Wrong secret",
			text:
				"The body is exactly what was sent, so the secret, the timestamp or the signature is not the one of this endpoint.",
		};
	}
	const at = [...sent].findIndex((letter, i) => letter !== [...request.body][i]);
	const place = at < 0 ? [...sent].length : at;
	const part = (text) => JSON.stringify([...text].slice(place, place + 24).join(""));
	return {
		title: right ? "Altered body" : "Altered body, and perhaps a wrong secret",
		text: `The body differs from what was sent, first at character ${place + 1}: sent was ${
			part(sent)
		}, here it is ${part(request.body)}.${right ? " The secret is right." : ""}`,
	};
}
