/**
 * A message and its whole story: what it says, how far it has come at each endpoint and why, and every attempt.
 *
 * @module
 */

import { path } from "../api.js";
import { fill, h, keyed } from "../dom.js";
import { code, member } from "../json.js";
import { table, tableRow } from "../list.js";
import { live } from "../live.js";
import { action, copy, empty, facts, failure, link, load, mono, section, state, when } from "../parts.js";
import { href } from "../route.js";
import { answered, attemptState, nextTry, sentence, unfolded, word } from "../attempts.js";
import { endpointHref, head, sendAgain, way } from "./shared.js";

/** @typedef {import("../console.js").Context} Context */

/** @param {Context} context */
export function message(context) {
	const { api, params, signal, title } = context;
	const base = path`app/${params.app}/msg/${params.msg}`;
	title("Message");
	const place = h("div");
	load(place, signal, () => api.call("GET", base, { signal }), ({ data, text }) => {
		title(`${data.eventType} ${data.eventId ?? data.id}`);
		return page(context, data, member(text, "payload") ?? "");
	});
	return place;
}

function page(context, message, payload) {
	const { params: { app } } = context;
	const gone = message.payload?.expired === true;
	const tags = (message.tags ?? []).flatMap((tag, i) => [
		i ? ", " : "",
		link(tag, href(["app", app, "delivery"], { tag })),
	]);
	return [
		head([message.eventType, message.eventId && ` · ${message.eventId}`], way(context, app)),
		story(context, message, payload, gone),
		h(
			"div",
			{ class: "columns" },
			section(
				"Message",
				facts(
					["Id", [mono(message.id), " ", copy(message.id, "Id")]],
					message.eventId && ["Event id", mono(message.eventId)],
					["Event type", link(message.eventType, href(["event-type", message.eventType]))],
					["Accepted", when(message.timestamp)],
					message.channels?.length && ["Channels", message.channels.join(", ")],
					tags.length > 0 && ["Tags", tags],
					!gone && ["Size", `${new TextEncoder().encode(payload).length.toLocaleString()} bytes`],
				),
			),
			section(
				"Payload",
				gone
					? empty("The payload is no longer kept: its retention has ended, or it was removed.")
					: shown(payload),
			),
		),
	];
}

/** The payload as it was sent or indented; what is copied is what was sent. */
function shown(payload) {
	const place = h("div");
	const draw = (indent) => fill(place, code(payload, "Payload", { indent }));
	draw(true);
	const indent = h("input", {
		type: "checkbox",
		id: "indent",
		checked: true,
		onchange: () => draw(indent.checked),
	});
	return [
		h(
			"div",
			{ class: "buttons bar" },
			copy(payload, "Payload"),
			h("label", { for: "indent" }, indent, " Indented"),
		),
		place,
	];
}

/** The endpoints and the attempts, kept up to date. */
function story(context, message, payload, gone) {
	const { api, signal, params: { app }, query } = context;
	const base = path`app/${app}/msg/${message.id}`;
	/** @type {Set<string>} */
	const open = new Set(query.get("attempt") ? [query.get("attempt") ?? ""] : []);
	/** @type {any[]} */
	let verdicts = [];
	/** @type {any[]} */
	let attempts = [];
	let complete = true;
	const summary = h("p", "Loading…"), problem = h("div"), older = h("p", { class: "muted" });
	const name = (id) => {
		const known = verdicts.find((row) => row.endpointId === id);
		return known?.endpointUid ?? known?.url ?? id;
	};
	const refresh = async () => {
		const [explained, tried] = await Promise.all([
			api.get(`${base}/explain`, { signal }),
			api.get(path`app/${app}/attempt/msg/${message.id}`, { signal, query: { limit: 250 } }),
		]);
		fill(problem);
		[verdicts, attempts, complete] = [explained.data, tried.data.reverse(), tried.done];
		fill(summary, sentence(explained.text));
		draw();
	};
	const columns = endpointColumns(context, app, message.id, gone, () => refresh());
	const toggle = (id) => (open.has(id) ? open.delete(id) : open.add(id), draw());
	const tries = attemptColumns(app, name, open, toggle);
	const endpoints = table("Endpoints of this message", columns),
		timeline = table("Attempts, oldest first", tries);
	const none = h("div"), untried = h("div");
	const detail = (attempt) => {
		const cell = h("td", { colspan: tries.length, role: "cell" });
		load(
			cell,
			signal,
			() => api.get(base + path`/attempt/${attempt.id}`, { signal }),
			(full) => unfolded({ ...attempt, ...full }, payload),
		);
		return h("tr", { role: "row", class: "detail" }, cell);
	};
	function draw() {
		keyed(body(endpoints), verdicts, (row) => row.endpointId, (row) => tableRow(columns, row));
		endpoints.hidden = verdicts.length === 0;
		fill(
			none,
			verdicts.length === 0 &&
				empty(
					"This application has no endpoint. ",
					link("Add endpoint", href(["app", app], { add: 1 })),
					" to have later messages sent.",
				),
		);
		const items = attempts.flatMap((row) =>
			open.has(row.id) ? [{ ...row, open: true }, { id: `detail ${row.id}`, of: row }] : [row]
		);
		keyed(body(timeline), items, (row) => row.id, (row) => row.of ? detail(row.of) : tableRow(tries, row));
		timeline.hidden = attempts.length === 0;
		fill(
			untried,
			attempts.length === 0 &&
				empty(
					"No attempt yet. The first one is made within a second, unless the endpoint is busy or limited to a rate.",
				),
		);
		older.textContent = complete ? "" : "Only the newest 250 attempts are shown.";
	}
	let turn = 0;
	live.every(signal, async () => {
		// What does not change soon is looked at every 10 s.
		const soon = Date.now() + 60_000;
		const moves = verdicts.length === 0 ||
			verdicts.some(({ verdict, nextAttemptAt }) =>
				verdict === "sending" || (verdict === "waiting" && !(+new Date(nextAttemptAt) > soon))
			);
		if (turn++ % 5 && !moves) return;
		try {
			await refresh();
		} catch (error) {
			if (!signal.aborted) fill(problem, failure(error, refresh));
			throw error;
		}
	});
	return [
		problem,
		section("Endpoints", summary, h("div", { class: "list" }, endpoints), none),
		section("Attempts", older, h("div", { class: "list" }, timeline), untried),
	];
}

function body(table) {
	return table.tBodies[0];
}

function endpointColumns(context, app, msgId, gone, then) {
	const reason = context.may("operate") ??
		(gone ? "The payload is no longer kept, so it cannot be sent." : null);
	/** @type {import("../list.js").Column[]} */
	const columns = [
		["Endpoint", (row) => [
			link(row.endpointUid ?? row.endpointId, endpointHref(app, row.endpointId)),
			h("div", { class: "mono muted" }, row.url),
		]],
		["State", (row) => state(word(row.verdict))],
		["Why", (row) => sentence(row.text), "wide"],
		["Tries", (row) => row.attempts, "number"],
		["Next try", (row) => nextTry(row.nextAttemptAt)],
		["Action", (row) => {
			const name = row.endpointUid ?? row.url;
			const delivery = {
				msgId,
				endpointId: row.endpointId,
				state: row.verdict,
				nextAttemptAt: row.nextAttemptAt,
				name,
			};
			return action("Send again", () => sendAgain(context, app, delivery, then), {
				about: name,
				reason: reason ??
					(row.reason === "deleted"
						? "The endpoint was deleted."
						: row.reason === "disabled"
						? "The endpoint is disabled. Enable it first."
						: null),
			});
		}, "actions"],
	];
	return columns;
}

function attemptColumns(app, name, open, toggle) {
	/** @type {import("../list.js").Column[]} */
	const columns = [
		["Time", (row) => when(row.timestamp)],
		["Endpoint", (row) => link(name(row.endpointId), endpointHref(app, row.endpointId))],
		["State", (row) => state(attemptState(row))],
		["Answer", (row) => answered(row), "wide"],
		["Trigger", (row) => row.triggerType === 1 ? "by hand" : "schedule"],
		["Details", (row) =>
			h("button", {
				type: "button",
				"aria-expanded": String(open.has(row.id)),
				"aria-description": name(row.endpointId),
				onclick: () => toggle(row.id),
			}, "Details"), "actions"],
	];
	return columns;
}
