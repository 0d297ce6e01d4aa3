/** What several screens show the same way. */

import { path } from "../api.js";
import { h, p } from "../dom.js";
import { filteredList } from "../list.js";
import { action, ask, buttons, copy, distance, facts, link, mono, muted, say, state, when } from "../parts.js";
import { SITE } from "../page.js";
import { href } from "../route.js";

export const appHref = (app) => href(["app", app]);
export const endpointHref = (app, endpoint, ...more) => href(["app", app, "endpoint", endpoint, ...more]);
export const messageHref = (app, message, query) => href(["app", app, "msg", message], query);

/** The heading of a screen, which names the page, below the way to it, with what can be done. */
export function head(title, way, ...actions) {
	const crumbs = way.map((part, i) => [i > 0 && " / ", part]), heading = h("h1", title);
	document.title = `${heading.textContent} · ${SITE}`;
	return h(
		"div.head",
		h("div", way.length > 0 && h("nav.crumbs", { "aria-label": "Way" }, crumbs), heading),
		buttons(...actions),
	);
}

/** @type {Map<string, any>} */
const applications = new Map();

/** Remembers an application for links to it. */
export function remember(app) {
	applications.set(app.id, app);
	return app;
}

/** A link to an application, by its name as soon as that is known. @param {Context} context @param {string} id */
export function appLink({ get }, id) {
	const node = link(applications.get(id)?.name ?? id, appHref(id));
	if (!applications.has(id)) get(path`app/${id}`).then((app) => node.textContent = remember(app).name, () => {});
	return node;
}

/** The way to a thing of an application. @param {Context} context @param {string} list @param {string} text the portal's list of such things */
export function way(context, list, text) {
	return context.portal
		? [link(text, href([list]))]
		: [link("Applications", href(["app"])), appLink(context, context.appId)];
}

/** What people call an endpoint. @param {Context} context @param {any} endpoint or a row that names one */
export function nameOf({ portal }, { uid, endpointUid, url, description, endpointId, id }) {
	if (!portal) return uid ?? endpointUid ?? url ?? endpointId;
	const host = URL.canParse(url) ? new URL(url).host : url;
	return description?.split("\n", 1)[0].slice(0, 60).trim() || (description === undefined ? url : host) || id ||
		"this endpoint";
}

/** An action that the token may lack the right to: the console says why, the portal leaves it out. @param {Context} context @param {Right} right @param {string} label @param {() => unknown} run @param {Parameters<typeof action>[2]} [options] */
export function permitted({ may, portal }, right, label, run, options = {}) {
	const reason = may(right);
	return portal && reason ? null : action(label, run, { ...options, reason: reason ?? options.reason });
}

const ACTS = /** @type {Record<string, string>} */ ({
	manage: "change endpoints",
	operate: "send messages again or send tests",
	secret: "see signing secrets",
	rotate: "replace signing secrets",
});

/** One sentence of the portal that says why actions are absent. @param {Context} context @param {...Right} rights */
export function limits({ may, portal }, ...rights) {
	const acts = rights.filter((right) => may(right)).map((right) => ACTS[right]);
	if (!portal || acts.length === 0) return null;
	return muted(`Your link does not allow you to ${acts.join(" or ")}. Ask for another where you got it.`);
}

/** Sends a message to an endpoint again. Where it waits or has arrived, it asks first. @param {Context} context @param {any} delivery @param {() => unknown} [then] */
export async function sendAgain(context, { msgId, state, nextAttemptAt, ...endpoint }, then) {
	const { app, get, api } = context, name = nameOf(context, endpoint);
	const run = async () => {
		// The server accepts a resend to a disabled endpoint and sends nothing.
		const { disabled } = await get(app + path`/endpoint/${endpoint.endpointId}`);
		if (disabled) throw new Error(`${name} is disabled, and nothing is sent to it. Enable it first.`);
		await api.post(app + path`/msg/${msgId}/endpoint/${endpoint.endpointId}/resend`);
		say(`Sent again to ${name}`);
		await then?.();
	};
	const confirm = (title, text) => ask({ title, button: "Send again", run }, h("p", text));
	if (state === "waiting" && nextAttemptAt) {
		confirm(`Next try ${distance(nextAttemptAt)}. Send now instead?`, `One attempt more is made at ${name} at once.`);
	} else if (state === "delivered") {
		confirm("Send a delivered message again?", `${name} has it, and gets it again with the same webhook-id.`);
	} else await run();
}

/**
 * A screen that is one list. The query of the address is its filters.
 *
 * @param {Context} context
 * @param {Parameters<typeof filteredList>[1] & {title: string, actions?: Children, note?: Children}} options
 */
export function listScreen(context, { title, actions, note, ...options }) {
	const { nodes, reload } = filteredList(context, options);
	return { node: h("div", head(title, [], actions), note, h("section", nodes)), reload };
}

/** The state of an endpoint as a word. */
export function endpointState({ disabled, failingSince }) {
	return state(disabled ? "disabled" : failingSince ? "failing" : "enabled");
}

/** An endpoint's name or URL, and what is known besides. */
export function endpointCell({ uid, id, url, description }, href, portal) {
	return [
		link(portal ? url : uid ?? id, href),
		!portal && h("div.mono.muted", url),
		description && h("div.muted", description),
	];
}

/** What an application or an endpoint is known by, and since when. @param {any} it @param {...[string, Children] | false | null} more */
export function about(it, ...more) {
	return facts(
		["Id", [mono(it.id), " ", copy(it.id, "Id")]],
		...more,
		["Created", when(it.createdAt)],
		["Changed", when(it.updatedAt)],
	);
}

/** What an empty list says where filters are set. */
export function noneMatches(noun) {
	return p`No ${noun} matches these filters.`;
}
