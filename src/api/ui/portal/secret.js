/**
 * The signing secret of an endpoint: shown when asked for, and replaced.
 *
 * @module
 */

import { fill, h } from "../dom.js";
import { action, ask, copy, field, say, section, select } from "../parts.js";
import { limits } from "./shared.js";

/** @typedef {import("../portal.js").Context} Context */

const GRACE = /** @type {[string, string][]} */ ([
	["86400", "for 24 hours more"],
	["3600", "for an hour more"],
	["604800", "for 7 days more"],
	["0", "not any more: from now on only the new one"],
]);

/**
 * @param {Context} context
 * @param {string} base the path of the endpoint
 * @param {boolean} [open] shows the secret at once
 */
export function secretSection(context, base, open) {
	const { api, can, signal } = context;
	const place = h("div");
	const hide = () => fill(place, action("Show secret", show));
	const show = async () => {
		const { key } = await api.get(`${base}/secret`, { signal });
		fill(
			place,
			h(
				"div",
				{ class: "secret" },
				h("code", { class: "mono" }, key),
				copy(key, "Secret"),
				action("Hide", hide),
			),
		);
	};
	const rotate = () => {
		const grace = select(GRACE, "86400");
		return ask(
			{
				title: "Replace the signing secret?",
				button: "Rotate secret",
				kind: "danger",
				run: async () => {
					await api.post(`${base}/secret/rotate`, { gracePeriodSeconds: Number(grace.value) });
					say("The secret was replaced");
					await show();
				},
			},
			h(
				"p",
				"A new secret is made. Put it into your server before the old one ends, or its checks will fail.",
			),
			field("The old secret goes on signing too", grace),
		);
	};
	if (can("secret")) {
		hide();
		if (open) show().catch(() => {});
	}
	return section(
		"Signing secret",
		h(
			"p",
			"Each message is signed with this secret, so that your server can check who sent it. Keep it as you keep a password.",
		),
		place,
		can("rotate") && h("div", { class: "buttons" }, action("Rotate secret", rotate)),
		limits(context, "secret", "rotate"),
	);
}
