/**
 * What the link allows, until when, and its end.
 *
 * @module
 */

import { h } from "../dom.js";
import { table } from "../list.js";
import { ago, facts, load, section, when } from "../parts.js";
import { asking, head } from "../screens/shared.js";

/** @typedef {import("../portal.js").Context} Context */

/** @param {Context} context */
export function access(context) {
	const { api, app, can, signal, title, who, end } = context;
	title("Access");
	const place = h("div");
	load(
		place,
		signal,
		() => Promise.all([api.get(app, { signal }), api.get("auth/token", { signal })]),
		([{ name }, { featureFlags }]) =>
			facts(
				["Account", name],
				["Ends", who.expiresAt ? [when(who.expiresAt), " (", ago(who.expiresAt), ")"] : "never by itself"],
				featureFlags?.length > 0 && ["Early event types", featureFlags.join(", ")],
			),
	);
	const rights = /** @type {[string, boolean][]} */ ([
		["See endpoints, messages and deliveries", true],
		["Add, change and delete endpoints", can("manage")],
		["See signing secrets", can("secret")],
		["Replace signing secrets", can("rotate")],
		["Send messages again, send tests", can("attempts")],
	]);
	const leave = asking("End access", {
		title: "End this access?",
		text: "This link stops working everywhere, within seconds. For another, go where you got it.",
		run: () => api.post("auth/logout"),
		done: "Ended",
		then: end,
		kind: "danger",
	});
	return h(
		"div",
		head("Access", []),
		section("This link", place),
		section(
			"What it allows",
			table("What this link allows", [["Action", ([text]) => text], [
				"Allowed",
				([, yes]) => yes ? "yes" : "no",
			]], rights),
		),
		section(
			"End it",
			h("p", "If the link came into wrong hands, or you are on a computer of others."),
			leave,
		),
	);
}
