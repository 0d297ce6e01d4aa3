/**
 * What several screens of the console show the same way.
 *
 * @module
 */

import { isAborted, path } from "../api.js";
import { fill, h, keyed, nodes, swap } from "../dom.js";
import { filterForm, list, table, tableRow } from "../list.js";
import { live } from "../live.js";
import { action, ask, count, distance, failure, link, say, state } from "../parts.js";
import { href, parse } from "../route.js";

/** @typedef {import("../console.js").Context} Context */
/** @typedef {import("../dom.js").Children} Children */

/** @param {string} app */
export const appHref = (app) => href(["app", app]);
/** @param {string} app @param {string} endpoint */
export const endpointHref = (app, endpoint) => href(["app", app, "endpoint", endpoint]);
/** @param {string} app @param {string} message @param {Record<string, any>} [query] */
export const messageHref = (app, message, query) => href(["app", app, "msg", message], query);

/**
 * The heading of a screen, below the way to it, with what can be done.
 *
 * @param {Children} title
 * @param {readonly Children[]} way
 * @param {...Children} actions
 */
export function head(title, way, ...actions) {
	const crumbs = way.flatMap((part, i) => (i ? [" / ", part] : [part])).flat();
	return h(
		"div",
		{ class: "head" },
		h(
			"div",
			way.length > 0 && h("nav", { class: "crumbs", "aria-label": "Way" }, ...crumbs),
			h("h1", title),
		),
		h("div", { class: "buttons" }, ...actions),
	);
}

/** @type {Map<string, {id: string, name: string, uid: string | null}>} */
const applications = new Map();

/** Remembers an application for links to it. @template {{id: string, name: string, uid: string | null}} T @param {T} app */
export function remember(app) {
	applications.set(app.id, app);
	return app;
}

/** A link to an application, by its name as soon as that is known. @param {Context} context @param {string} id */
export function appLink({ api, signal }, id) {
	const node = link(applications.get(id)?.name ?? id, appHref(id));
	if (!applications.has(id)) {
		api.get(path`app/${id}`, { signal }).then((app) => node.textContent = remember(app).name).catch(() => {});
	}
	return node;
}

/** @param {Context} context @param {string} app @returns {Children[]} */
export function way(context, app) {
	return [link("Applications", href(["app"])), appLink(context, app)];
}

/**
 * Sends a message to an endpoint again. Where it waits or has arrived, it asks first.
 *
 * @param {Context} context
 * @param {string} app
 * @param {{msgId: string, endpointId: string, state: string, nextAttemptAt?: string | null, name: string}} delivery
 * @param {() => unknown} [then]
 */
export async function sendAgain({ api }, app, { msgId, endpointId, state, nextAttemptAt, name }, then) {
	const run = async () => {
		// The server accepts a resend to a disabled endpoint and sends nothing.
		const { disabled } = await api.get(path`app/${app}/endpoint/${endpointId}`);
		if (disabled) throw new Error(`${name} is disabled, and nothing is sent to it. Enable it first.`);
		await api.post(path`app/${app}/msg/${msgId}/endpoint/${endpointId}/resend`);
		say(`Sent again to ${name}`);
		await then?.();
	};
	const confirm = (title, text) => ask({ title, button: "Send again", run }, h("p", text));
	if (state === "waiting" && nextAttemptAt) {
		await confirm(
			`Next try ${distance(nextAttemptAt)}. Send now instead?`,
			`One attempt more is made at ${name} at once.`,
		);
	} else if (state === "delivered") {
		await confirm(
			"Send a delivered message again?",
			`${name} has it already, and gets it a second time with the same webhook-id.`,
		);
	} else await run();
}

/**
 * A part of a screen that is asked for again and again. What was shown stays when a later request fails; the
 * failure stands above it. The event `refresh` at what it returns asks at once.
 *
 * @param {AbortSignal} signal
 * @param {() => Promise<Children>} draw
 * @param {number} [seconds]
 */
export function fresh(signal, draw, seconds = 2) {
	const problem = h("div");
	let place = h("div", h("p", { class: "waiting" }, "Loading…"));
	const once = async () => {
		try {
			const drawn = await draw();
			fill(problem);
			const next = nodes([drawn]), shown = place.childNodes;
			// Kept nodes must not be moved: that would take the focus from them.
			if (next.length === shown.length && next.every((node, i) => node === shown[i])) return;
			if (next.some((node) => node instanceof Node && place.contains(node))) return void fill(place, ...next);
			const made = h("div", ...next);
			if (swap(place, made)) place = made;
		} catch (error) {
			if (signal.aborted || isAborted(error)) return;
			fill(problem, failure(error, once));
			if (place.querySelector(".waiting")) fill(place);
			throw error;
		}
	};
	live.every(signal, once, { seconds });
	const whole = h("div", { onrefresh: () => once().catch(() => {}) }, problem, place);
	return whole;
}

/** A table that keeps its rows while what it shows is asked for again. @param {string} caption @param {readonly import("../list.js").Column[]} columns @param {(row: any) => string} key */
export function keptTable(caption, columns, key) {
	const node = table(caption, columns);
	return {
		node: h("div", { class: "list" }, node),
		/** @param {readonly any[]} rows */
		set: (rows) => {
			node.hidden = rows.length === 0;
			keyed(node.tBodies[0], rows, key, (row) => tableRow(columns, row));
		},
	};
}

/** @param {number} n a count that the server ends at 1,000 */
export function capped(n) {
	return n >= 1000 ? "1,000 or more" : count(n);
}

/**
 * A screen that is one list. `from` is the path of the list; the query of the address is its filters.
 *
 * @param {Context} context
 * @param {Partial<import("../list.js").ListOptions> & Pick<import("../list.js").ListOptions, "caption" | "noun" | "columns" | "empty"> & {
 *   title: string, from?: string, way?: Children[], actions?: Children, note?: Children, filters?: import("../list.js").Filter[],
 * }} options
 */
export function listScreen(context, { title, way = [], actions, note, ...options }) {
	context.title(title);
	const { nodes, reload } = filteredList(context, options);
	return { node: h("div", head(title, way, actions), note, h("section", nodes)), reload };
}

/** A list with its filters. @param {Context} context @param {any} options as of `listScreen` */
export function filteredList({ api, signal, keep }, { from, filters = [], ...options }) {
	if (filters.length) keep();
	const { node, reload } = list({
		signal,
		key: (row) => row.id,
		load: (page, signal) =>
			api.get(from, { signal, query: { ...Object.fromEntries(parse().query), ...page } }),
		...options,
	});
	return { nodes: [filters.length > 0 && filterForm(filters, signal, reload), node], reload };
}

/** Filters by time. @type {import("../list.js").Filter[]} */
export const PERIOD = [{ name: "after", label: "After", instant: true }, {
	name: "before",
	label: "Before",
	instant: true,
}];

/**
 * A button that asks before it does something that takes something away.
 *
 * @param {string} label
 * @param {{title: string, text?: string, typed?: string, run: () => unknown, done: string, then?: () => unknown, reason?: string | null, about?: string, kind?: "danger" | ""}} options
 */
export function asking(label, { title, text, typed, run, done, then, reason, about, kind }) {
	const act = async () => {
		await run();
		say(done);
		await then?.();
	};
	return action(
		label,
		() => ask({ title, button: label, kind: "danger", typed, run: act }, text && h("p", text)),
		{ reason, about, kind },
	);
}

/** The state of an endpoint as a word. @param {any} endpoint */
export function endpointState({ disabled, failingSince }) {
	return state(disabled ? "disabled" : failingSince ? "failing" : "enabled");
}

/** An endpoint's name, and its URL below. @param {any} row @param {string} href */
export function endpointCell({ uid, id, url, description }, href) {
	return [
		link(uid ?? id, href),
		h("div", { class: "mono muted" }, url),
		description && h("div", { class: "muted" }, description),
	];
}
