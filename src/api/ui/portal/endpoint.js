/**
 * One endpoint: what was sent to it, how to set it up, and its settings.
 *
 * @module
 */

import { lastAnswer, nextTry } from "../attempts.js";
import { newest, path } from "../api.js";
import { bars } from "../chart.js";
import { fill, h } from "../dom.js";
import { live } from "../live.js";
import {
	action,
	ago,
	count,
	facts,
	form,
	link,
	load,
	mono,
	numbers,
	say,
	section,
	share,
	state,
	when,
} from "../parts.js";
import { go, href } from "../route.js";
import { asking, endpointState, filteredList, fresh, head, PERIOD, sendAgain } from "../screens/shared.js";
import { bulkTasks, startBulk } from "./bulk.js";
import { editor } from "./endpoints.js";
import { samples } from "./samples.js";
import { secretSection } from "./secret.js";
import { endpointHref, eventTypes, limits, messageLink, nameOf, whyDisabled } from "./shared.js";
import { testSection } from "./tester.js";

/** @typedef {import("../portal.js").Context} Context */
/** @typedef {(context: Context, endpoint: any, again: () => unknown) => import("../dom.js").Children} Tab */

const TABS = /** @type {[string, string[]][]} */ ([
	["Deliveries", []],
	["Test and secret", ["setup"]],
	["Settings", ["settings"]],
]);

/**
 * What is around each part of an endpoint. It is drawn anew after an action, and when the endpoint was disabled
 * or began to fail meanwhile; `draw` gets a context that ends with what it has drawn.
 *
 * @param {Context} context
 * @param {string} tab
 * @param {Tab} draw
 */
function endpoint(context, tab, draw) {
	const { api, app, signal, params, title } = context;
	const place = h("div"), next = newest(signal);
	const get = () => api.get(app + path`/endpoint/${params.endpoint}`, { signal });
	const health = ({ disabled, failingSince }) => `${disabled} ${failingSince}`;
	let shown = "";
	title("Endpoint");
	const again = () =>
		load(place, signal, get, (found) => {
			title(nameOf(found));
			shown = health(found);
			const inner = { ...context, signal: next() };
			return [...top(inner, found, tab, again), draw(inner, found, again)];
		});
	again();
	// The other parts are filled in by hand, and what was typed must stay.
	if (tab === "Deliveries") {
		live.every(signal, async () => health(await get()) !== shown && shown && again(), {
			seconds: 10,
			later: true,
		});
	}
	return place;
}

function top(context, found, tab, again) {
	const { api, app, can } = context;
	const enable = async () => {
		await api.patch(`${app}/endpoint/${found.id}`, { disabled: false });
		say("Enabled");
		await again();
	};
	const disable = asking("Disable", {
		title: `Disable ${nameOf(found)}?`,
		text:
			"Nothing more is sent to it until it is enabled. What it misses can be sent later with Replay missing.",
		run: () => api.patch(`${app}/endpoint/${found.id}`, { disabled: true }),
		done: "Disabled",
		then: again,
	});
	return [
		head(
			nameOf(found),
			[link("Endpoints", href(["endpoints"]))],
			endpointState(found),
			can("manage") &&
				(found.disabled ? action("Enable", enable, { kind: "main" }) : disable),
		),
		h("p", { class: "mono" }, found.url),
		found.disabled
			? h("p", { class: "note" }, "Nothing is sent to this endpoint: ", whyDisabled(found), ".")
			: found.failingSince &&
				h(
					"p",
					{ class: "note" },
					"Every attempt has failed since ",
					ago(found.failingSince),
					". The last answers stand below. When your server works again, ",
					h("em", "Recover"),
					" sends what has failed.",
				),
		h(
			"nav",
			{ class: "tabs", "aria-label": "Parts of this endpoint" },
			...TABS.map(([text, more]) =>
				link(text, endpointHref(found.id, ...more), { "aria-current": text === tab ? "page" : null })
			),
		),
	];
}

/** @param {Context} outer */
export function deliveries(outer) {
	outer.keep();
	return endpoint(outer, "Deliveries", (context, found) => {
		const { can } = context;
		const reason = found.disabled ? "The endpoint is disabled. Enable it first." : null;
		const tasks = h("div");
		const watch = (started = "") => fill(tasks, bulkTasks(context, found.id, started));
		watch();
		const bulk = (label, kind) => {
			const begun = (id) => (say(`${label} has begun`), watch(id));
			return action(label, () => startBulk(context, found, kind, begun), { reason });
		};
		return [
			section("Last 24 hours", fresh(context.signal, () => today(context, found.id), 10)),
			h(
				"section",
				h(
					"div",
					{ class: "head" },
					h("h2", "Deliveries"),
					can("attempts") &&
						h(
							"div",
							{ class: "buttons" },
							bulk("Recover", "recover"),
							bulk("Replay missing", "replay-missing"),
						),
				),
				limits(context, "attempts"),
				tasks,
				deliveryList(context, found),
			),
		];
	});
}

async function today({ api, signal }, id) {
	const { data: [series] } = await api.get("stats/delivery", {
		signal,
		query: { by: "endpoint", endpoint_id: id },
	});
	if (!series) return h("p", { class: "muted" }, "Nothing was sent.");
	const { delivered, failed, buckets } = series;
	return [
		numbers(
			["Delivered", count(delivered), "attempts in 24 h"],
			["Failed", count(failed), "attempts in 24 h"],
			["Success", share(delivered, failed), "of the attempts in 24 h"],
		),
		bars(buckets, { title: "Attempts by the hour", step: 3600 }),
	];
}

function deliveryList(context, found) {
	const reason = found.disabled ? "The endpoint is disabled. Enable it first." : null;
	/** @type {import("../list.js").Column} */
	const resend = ["Action", (row) => {
		const again = () => sendAgain(context, context.who.appId, { ...row, name: nameOf(found) }, reload);
		return action("Send again", again, { about: row.eventId ?? row.msgId, reason });
	}, "actions"];
	const { nodes, reload } = filteredList(context, {
		caption: "Deliveries, newest first",
		noun: "deliveries",
		from: `${context.app}/delivery?endpoint_id=${found.id}`,
		refresh: true,
		key: (row) => row.msgId,
		columns: [
			["State", (row) => state(row.state)],
			["Message", (row) => messageLink(row.msgId, row.eventId)],
			["Event type", (row) => row.eventType, "wide"],
			["Accepted", (row) => when(row.createdAt)],
			["Attempts", (row) => count(row.attempts), "number"],
			["Last answer", (row) => lastAnswer(row)],
			["Next try", (row) => nextTry(row.nextAttemptAt)],
			...(context.can("attempts") ? [resend] : []),
		],
		empty: () =>
			location.hash.includes("?")
				? h("p", "No delivery matches these filters. ", link("Show all", endpointHref(found.id)))
				: h(
					"p",
					"Nothing was sent to this endpoint yet. A test does it at once: ",
					link("Test and secret", endpointHref(found.id, "setup")),
				),
		filters: [
			{ name: "state", label: "State", options: ["delivered", "waiting", "sending", "failed"] },
			{ name: "event_type", label: "Event type" },
			{ name: "tag", label: "Tag" },
			...PERIOD,
		],
	});
	return nodes;
}

/** @param {Context} outer */
export function setup(outer) {
	return endpoint(outer, "Test and secret", (context, found) => {
		const base = `${context.app}/endpoint/${found.id}`;
		const fresh = context.query.has("new");
		return [
			fresh &&
			h(
				"p",
				{ class: "done" },
				"The endpoint was added. Three steps: put the secret into your server, check the signature there, and send a test.",
			),
			secretSection(context, base, fresh),
			section("Check the signature", ...samples()),
			testSection(context, found),
		];
	});
}

/** @param {Context} outer */
export function settings(outer) {
	const { api, app, can } = outer;
	return endpoint(outer, "Settings", (context, found, again) => {
		return [
			can("manage") ? edit(context, found, again) : null,
			section(
				"About",
				facts(
					["Id", mono(found.id)],
					!can("manage") && ["Description", found.description || "–"],
					!can("manage") && ["Event types", found.eventTypes?.join(", ") ?? "all"],
					["Added", when(found.createdAt)],
					["Changed", when(found.updatedAt)],
				),
				limits(context, "manage"),
			),
			can("manage") &&
			section(
				"Delete",
				h("p", "A deleted endpoint gets nothing more, and cannot be brought back."),
				asking("Delete endpoint", {
					title: `Delete ${nameOf(found)}?`,
					text: `Messages that still wait to be sent to ${found.url} are not sent any more.`,
					typed: nameOf(found),
					run: () => api.delete(`${app}/endpoint/${found.id}`),
					done: "Deleted",
					then: () => go(href(["endpoints"])),
					kind: "danger",
				}),
			),
		];
	});
}

function edit(context, found, again) {
	const place = h("section");
	load(place, context.signal, () => eventTypes(context), (types) => {
		const parts = editor(found, types);
		const run = async () => {
			await context.api.patch(`${context.app}/endpoint/${found.id}`, parts.value());
			say("Saved");
			await again();
		};
		return [h("h2", "Settings"), form({ button: "Save", run }, ...parts.nodes)];
	});
	return place;
}
