/** Checks a pasted request in the browser, and shows how to check requests in programs. */

import { fill, h, p } from "../dom.js";
import { area, field, form, input, link, section, select } from "../parts.js";
import { head } from "../screens/shared.js";
import { samples } from "./samples.js";
import { check } from "./signature.js";

const HEADERS = "webhook-id: msg_…\nwebhook-timestamp: 1700000000\nwebhook-signature: v1,…";

/** @type {View} */
export function verify(context) {
	const secret = input({ class: "mono", required: true, placeholder: "whsec_…", maxlength: 200 });
	const headers = area({ required: true, placeholder: HEADERS }), body = area();
	const result = h("div.result", { role: "status" });
	const own = ownSecrets(context, secret);
	const run = async () => {
		const request = { secret: secret.value, headers: headers.value, body: body.value, certain: own.certain() };
		const { valid, title, text, id = "" } = await check(request);
		const sent = !valid && id.startsWith("msg_") && p`What was sent: ${link(id, context.to.message(id))}`;
		fill(result, h(valid ? "div.done" : "div.note", h("p", h("strong", title)), h("p", text), sent));
	};
	return h(
		"div",
		head("Verify"),
		section(
			"Check a request",
			h("p", "Paste what your server received. It is checked in this browser and sent nowhere."),
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

function ownSecrets({ api, get, app, may, signal, nameOf }, secret) {
	/** @type {string | null} */
	let known = null;
	const choice = select([["", "I enter it myself"]]);
	const node = h("div", { hidden: true }, field("Use the secret of", choice));
	const offer = ({ data }) => {
		choice.append(...data.map((it) => h("option", { value: it.id }, `${nameOf(it)} · ${it.url.slice(0, 80)}`)));
		node.hidden = data.length === 0;
	};
	if (!may("secret")) api.all(`${app}/endpoint`, { signal, most: 250 }).then(offer, () => {});
	choice.addEventListener("change", async () => {
		secret.value = "";
		const wanted = choice.value;
		const { key = "" } = wanted ? await get(`${app}/endpoint/${wanted}/secret`).catch(() => ({})) : {};
		if (choice.value === wanted && !secret.value) secret.value = known = key; // else something was typed meanwhile
	});
	return { node, certain: () => !!known && secret.value.trim() === known };
}
