/** What several screens show the same way. */

import { path } from "../api.js";
import { bars } from "../chart.js";
import { h } from "../dom.js";
import { copied } from "../json.js";
import { list } from "../list.js";
import { SITE } from "../page.js";
import {
	ago,
	ask,
	buttons,
	copy,
	count,
	distance,
	facts,
	link,
	mono,
	muted,
	say,
	share,
	state,
	when,
} from "../parts.js";
import { href } from "../route.js";

export const appHref = (app) => href(["app", app]);
export const endpointHref = (app, endpoint, ...more) => href(["app", app, "endpoint", endpoint, ...more]);
export const messageHref = (app, message, query = {}) => href(["app", app, "msg", message], query);

/** The heading of a screen, which names the page, below the way to it, with what can be done. @param {...Children} actions */
export function head(title, way = /** @type {Child[]} */ ([]), ...actions) {
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

export function remember(app) {
	applications.set(app.id, app);
	return app;
}

/** A link to an application, by its name as soon as that is known. */
export function appLink({ get }, id) {
	const node = link(applications.get(id)?.name ?? id, appHref(id));
	if (!applications.has(id)) get(path`app/${id}`).then((app) => node.textContent = remember(app).name, () => {});
	return node;
}

/** The way to a thing of an application. `list` and `text` are the portal's list of such things. */
export function way(context, list, text) {
	return context.portal
		? [link(text, href([list]))]
		: [link("Applications", href(["app"])), appLink(context, context.appId)];
}

/** One sentence of the portal that says why actions are absent. @param {Context} context @param {...Right} rights */
export function limits({ may, portal }, ...rights) {
	const absent = portal && rights.some(may);
	return absent && muted("Your link does not allow every action here: ", link("what it allows", href(["access"])), ".");
}

/** Sends a message to an endpoint again. Where it waits or has arrived, it asks first. @param {Context} context */
export async function sendAgain({ app, get, api, nameOf }, { msgId, state, nextAttemptAt, ...endpoint }, then) {
	const name = nameOf(endpoint), id = endpoint.endpointId;
	const run = async () => {
		// The server accepts a resend to a disabled endpoint and sends nothing.
		const { disabled } = await get(app + path`/endpoint/${id}`);
		if (disabled) throw new Error(`${name} is disabled, and nothing is sent to it. Enable it first.`);
		await api.post(app + path`/msg/${msgId}/endpoint/${id}/resend`);
		say(`Sent again to ${name}`);
		await then();
	};
	const confirm = (title, text) => ask({ title, button: "Send again", run }, h("p", text));
	if (state === "waiting" && nextAttemptAt) {
		confirm(`Next try ${distance(nextAttemptAt)}. Send now instead?`, `One attempt more is made at ${name} at once.`);
	} else if (state === "delivered") {
		confirm("Send a delivered message again?", `${name} has it, and gets it again with the same webhook-id.`);
	} else await run();
}

/** Returns what tells the states of one of these messages, the newest first, or null if there were too many to read. */
export async function statesOfMessages({ api, app }, rows, query, signal) {
	if (rows.length === 0) return () => [];
	const near = (row, ms) => new Date(+new Date(row.timestamp) + ms).toISOString();
	query = { ...query, after: near(rows.at(-1), -1), before: near(rows[0], 1) };
	const { data, done } = await api.all(`${app}/delivery`, { signal, query, most: 10 * rows.length });
	const end = done ? "" : data.at(-1)?.msgId ?? "~";
	return ({ id }) => id > end ? data.filter(({ msgId }) => msgId === id).map(({ state }) => state) : null;
}

/** A screen that is one list. @param {Context} context @param {List & {title: string, actions?: Children}} options */
export function listScreen(context, { title, actions, ...options }) {
	return h("div", head(title, [], actions), h("section", list(context, options).nodes));
}

export function endpointState({ disabled, failingSince }) {
	return state(disabled ? "disabled" : failingSince ? "failing" : "enabled");
}

/** What enables something, or disables it. */
export function turn({ act, nameOf }, right, it, write) {
	const name = nameOf(it), label = it.disabled ? "Enable" : "Disable";
	const sure = {
		title: `Disable ${name}?`,
		text: "Nothing is sent to it until it is enabled, and what comes meanwhile is not kept for it.",
		run: () => write({ disabled: !it.disabled }),
		done: `${name} is ${label.toLowerCase()}d`,
	};
	const enable = async () => {
		await sure.run();
		say(sure.done);
	};
	return act(right, label, it.disabled ? enable : sure, { kind: it.disabled && "main" });
}

/** An endpoint's name or URL, and what is known besides. */
export function endpointCell({ uid, id, url, description }, href, portal = false) {
	return [
		link(portal ? url : uid ?? id, href),
		!portal && h("div.mono.muted", url),
		description && h("div.muted", description),
	];
}

/** Since when and why an endpoint is disabled. */
export function whyDisabled({ disabledAt, disabledReason }) {
	const reasons = {
		manual: "by a person or a program",
		gone: "since its server answered 410 Gone",
		failing: "since it had failed for too long",
	};
	return [disabledAt && ago(disabledAt), " ", reasons[disabledReason]];
}

/** The columns of attempts of 24 h, of rows with a `series`. @type {Column[]} */
export const counts = [
	[
		"Attempts, 24 h",
		({ series }) => series && bars(series.buckets, { title: "Attempts by hour, 24 h", table: false }),
	],
	["Delivered, 24 h", ({ series }) => count(series?.delivered), "number"],
	["Failed, 24 h", ({ series }) => count(series?.failed), "number"],
	["Succeeded, 24 h", ({ series }) => series ? share(series.delivered, series.failed) : "–", "number"],
];

export function joined(rows, series) {
	const byId = new Map(series.map((one) => [one.endpointId ?? one.appId, one]));
	return rows.map((row) => ({ ...row, series: byId.get(row.id) }));
}

/** @param {Context} context @param {(id: string) => string} to @param {() => Children} empty */
export function endpointList(context, appId, to, empty) {
	const { api, portal } = context;
	const load = async (page, signal) => {
		const endpoints = await api.get(path`app/${appId}/endpoint`, { signal, query: page });
		const ids = endpoints.data.map((row) => row.id).join(",");
		const query = { by: "endpoint", app_id: appId, endpoint_id: ids };
		// Counts must not keep the list from being shown.
		const stats = ids ? await api.get("stats/delivery", { signal, query }).catch(() => null) : null;
		return { ...endpoints, data: joined(endpoints.data, stats?.data ?? []) };
	};
	const since = (row) => row.disabled ? whyDisabled(row) : row.failingSince && ["since ", ago(row.failingSince)];
	const types = ({ eventTypes }) =>
		eventTypes?.length > 3 ? `${eventTypes.length} types` : eventTypes?.join(", ") ?? "all";
	return list(context, {
		caption: "Endpoints",
		noun: "endpoints",
		refresh: 10,
		load,
		columns: [
			["Endpoint", (row) => endpointCell(row, to(row.id), portal), "wide"],
			["State", (row) => [endpointState(row), h("div.muted", since(row))]],
			["Event types", types],
			...counts,
		],
		empty,
	}).nodes;
}

/** What an application or an endpoint is known by, and since when. */
export function about(it, ...more) {
	return facts(["Id", [mono(it.id), " ", copy(it.id, "Id")]], ...more, ["Created", when(it.createdAt)], [
		"Changed",
		when(it.updatedAt),
	]);
}

/** A call in a shell and in JavaScript. */
export function inCode(api, curl, javascript, title = "The same call in code") {
	const server = api.base.href.replace(/\/api\/v1\/$/, "");
	const setUp =
		`import { Svix } from "svix";\n\nconst svix = new Svix(process.env.TOKEN, { serverUrl: "${server}" });\n`;
	return h(
		"details.figures",
		{ open: true },
		h("summary", title),
		h("h3", "curl"),
		copied(curl, "curl"),
		h("h3", "JavaScript"),
		copied(setUp + javascript, "JavaScript"),
	);
}
