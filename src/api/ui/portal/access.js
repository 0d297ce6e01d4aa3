/** What the link allows, until when, and its end. */

import { h, p } from "../dom.js";
import { table } from "../list.js";
import { action, ago, confirming, facts, load, section, when } from "../parts.js";
import { head } from "../screens/shared.js";

/** @type {[text: string, right: Right | null][]} */
const RIGHTS = [
	["See endpoints, messages and deliveries", null],
	["Add, change and delete endpoints", "manage"],
	["See signing secrets", "secret"],
	["Replace signing secrets", "rotate"],
	["Send messages again, send tests", "operate"],
];

/** @param {Context} context */
export function access({ api, get, app, may, signal, who, end }) {
	const about = load(signal, () => Promise.all([get(app), get("auth/token")]), ([{ name }, { featureFlags }]) =>
		facts(
			["Account", name],
			["Ends", who.expiresAt ? [when(who.expiresAt), " (", ago(who.expiresAt), ")"] : "never by itself"],
			featureFlags?.length > 0 && ["Early event types", featureFlags.join(", ")],
		));
	const leave = confirming("End access", {
		title: "End this access?",
		text: "This link stops working everywhere, within seconds. For another, go where you got it.",
		run: () => api.post("auth/logout"),
		done: "Ended",
		then: () => end(),
	});
	/** @type {Column[]} */
	const columns = [["Action", ([text]) => text], ["Allowed", ([, right]) => right && may(right) ? "no" : "yes"]];
	return h(
		"div",
		head("Access", []),
		section("This link", about),
		section("What it allows", table("What this link allows", columns, RIGHTS)),
		section(
			"End it",
			p`If the link came into wrong hands, or you are on a computer of others.`,
			action("End access", leave, { kind: "danger" }),
		),
	);
}
