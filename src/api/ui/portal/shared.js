/**
 * What several screens of the portal show the same way.
 *
 * @module
 */

import { h } from "../dom.js";
import { ago, link } from "../parts.js";
import { href } from "../route.js";

/** @typedef {import("../portal.js").Context} Context */
/** @typedef {import("../portal.js").Right} Right */

const ACTS = /** @type {Record<Right, string>} */ ({
	manage: "change endpoints",
	attempts: "send messages again or send tests",
	secret: "see signing secrets",
	rotate: "replace signing secrets",
});

/** One sentence that says why actions are absent, or nothing. @param {Context} context @param {...Right} rights */
export function limits({ can }, ...rights) {
	const acts = rights.filter((right) => !can(right)).map((right) => ACTS[right]);
	if (acts.length === 0) return null;
	const last = acts.pop();
	const all = acts.length ? `${acts.join(", ")} or ${last}` : last;
	return h(
		"p",
		{ class: "muted" },
		`Your link does not allow you to ${all}. Ask for another where you got it.`,
	);
}

/** Why an endpoint is disabled. */
export function whyDisabled({ disabledReason, disabledAt }) {
	const why = disabledReason === "gone"
		? "your server answered with status 410 (gone)"
		: disabledReason === "failing"
		? "it had been failing for too long"
		: "somebody disabled it";
	return [why, disabledAt && [", ", ago(disabledAt)]];
}

/** What people call an endpoint. */
export function nameOf({ description, url, id }) {
	return description.split("\n", 1)[0].slice(0, 60).trim() || (URL.canParse(url) ? new URL(url).host : id);
}

export function endpointHref(id, ...more) {
	return href(["endpoints", id, ...more]);
}

/** A link to a message, by its event id if it has one. @param {string} id @param {string | null} [eventId] */
export function messageLink(id, eventId) {
	return link(eventId ?? id, href(["messages", id]), { class: "mono" });
}

/** The catalogue, by name. @param {Context} context @param {boolean} [content] whether with schemas */
export async function eventTypes({ api, signal }, content) {
	const { data } = await api.all("event-type", { signal, query: { with_content: content ? true : null } });
	return data;
}
