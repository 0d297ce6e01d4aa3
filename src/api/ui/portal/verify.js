/** Checks a pasted request in the browser, and shows how to check requests in programs. */

import { path } from "../api.js";
import { fill, h } from "../dom.js";
import { member } from "../json.js";
import { action, area, field, form, input, section, select } from "../parts.js";
import { head, nameOf } from "../screens/shared.js";
import { samples } from "./samples.js";
import { check } from "./signature.js";

const HEADERS = "webhook-id: msg_…\nwebhook-timestamp: 1700000000\nwebhook-signature: v1,…";

/** @param {Context} context */
export function verify(context) {
	const secret = input({ class: "mono", required: true, placeholder: "whsec_…", maxlength: 200 });
	const headers = area({ required: true, placeholder: HEADERS }), body = area();
	const result = h("div.result", { role: "status" });
	const own = ownSecrets(context, secret);
	const tell = ({ kind, title, text }) =>
		h(kind === "valid" ? "div.done" : "div.note", h("p", h("strong", title)), h("p", text));
	const run = async () => {
		const request = { secret: secret.value, headers: headers.value, body: body.value, certain: own.certain() };
		const verdict = await check(request), { id = "", kind } = verdict;
		const compare = async () => fill(result, tell(await compared(context, id, request)));
		const offer = id.startsWith("msg_") && ["either", "body"].includes(kind);
		fill(
			result,
			tell(verdict),
			offer && action("Compare with what was sent", compare),
			offer && h("p.hint", "Asks for the message by its id. Your secret and your body stay here."),
		);
	};
	return h(
		"div",
		head("Verify", []),
		section(
			"Check a request",
			h("p", "Paste what your server received. It is checked in this browser, and nothing of it leaves this page."),
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

/** A choice of endpoints whose secret is filled in. */
function ownSecrets(context, secret) {
	const { api, get, app, may, signal } = context;
	/** @type {string | null} */
	let known = null;
	const choice = select([["", "I enter it myself"]]);
	const node = h("div", { hidden: true }, field("Use the secret of", choice));
	const offer = ({ data }) => {
		const option = (it) => h("option", { value: it.id }, `${nameOf(context, it)} · ${it.url.slice(0, 80)}`);
		choice.append(...data.map(option));
		node.hidden = data.length === 0;
	};
	if (!may("secret")) api.all(`${app}/endpoint`, { signal, most: 250 }).then(offer, () => {});
	choice.addEventListener("change", async () => {
		known = null;
		secret.value = "";
		const wanted = choice.value;
		if (!wanted) return;
		try {
			const { key } = await get(`${app}/endpoint/${wanted}/secret`);
			if (choice.value === wanted) secret.value = known = key;
		} catch {
			choice.value = "";
		}
	});
	return { node, certain: () => known !== null && secret.value.trim() === known };
}

/** Tells a wrong secret from an altered body by the message as it was sent. @param {Context} context @param {string} id @param {Parameters<typeof check>[0]} request */
async function compared({ api, app, signal }, id, request) {
	const verdict = (title, text) => ({ kind: "", title, text });
	const asked = await api.call("GET", app + path`/msg/${id}`, { signal }).catch((error) => {
		if (error.status !== 404) throw error;
	});
	if (!asked) {
		return verdict("Not sent from here", `There is no message ${id}. Is it what was received, and the right account?`);
	}
	const { payload } = asked.data;
	if (payload?.expired === true) return verdict("Not known", "The content of this message is no longer kept.");
	const sent = payload?.rawPayload ?? member(asked.text, "payload") ?? "";
	if (sent === request.body) {
		return verdict(
			"Wrong secret",
			"The body is what was sent: secret, timestamp or signature are not this endpoint's.",
		);
	}
	const right = ["valid", "old"].includes((await check({ ...request, body: sent })).kind);
	const here = [...request.body], there = [...sent], at = there.findIndex((letter, i) => letter !== here[i]);
	const place = at < 0 ? there.length : at;
	const part = (letters) => JSON.stringify(letters.slice(place, place + 24).join(""));
	return verdict(
		right ? "Altered body" : "Altered body, and perhaps a wrong secret",
		`The body differs first at character ${place + 1}: sent was ${part(there)}, here it is ${part(here)}.` +
			(right ? " The secret is right." : ""),
	);
}
