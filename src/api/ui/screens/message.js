/** A message and its whole story: what it says, how far it has come at each endpoint and why, and every attempt. */

import { path } from "../api.js";
import { answered, attemptState, sentence, trigger, unfolded, word } from "../attempts.js";
import { fill, h } from "../dom.js";
import { member, payload as payloadBox } from "../json.js";
import { keptTable, tableRow } from "../list.js";
import { live } from "../live.js";
import {
	ago,
	columns,
	copy,
	count,
	empty,
	facts,
	failure,
	link,
	load,
	mono,
	muted,
	section,
	state,
	when,
} from "../parts.js";
import { href } from "../route.js";
import { head, limits, nameOf, permitted, sendAgain, way } from "./shared.js";

const MOST = 250;

/** @param {Context} context */
export function message(context) {
	const { api, app, params, signal, to, portal } = context;
	return load(signal, () => api.call("GET", app + path`/msg/${params.message}`, { signal }), ({ data, text }) => {
		const gone = data.payload?.expired === true, payload = gone ? "" : member(text, "payload") ?? "";
		const tags = (data.tags ?? []).map((tag, i) => [i > 0 && ", ", link(tag, to.tag(tag))]);
		const name = portal ? "Content" : "Payload";
		return [
			head([data.eventType, data.eventId && ` · ${data.eventId}`], way(context, "messages", "Messages")),
			story(context, data, payload),
			columns(
				section(
					"Message",
					facts(
						["Id", [mono(data.id), " ", copy(data.id, "Id")]],
						data.eventId && ["Event id", mono(data.eventId)],
						["Event type", link(data.eventType, to.type(data.eventType))],
						["Accepted", when(data.timestamp)],
						data.channels?.length && ["Channels", data.channels.join(", ")],
						tags.length > 0 && ["Tags", tags],
						!gone && ["Size", `${count(new TextEncoder().encode(payload).length)} bytes`],
					),
				),
				section(name, gone ? empty("It is no longer kept.") : payloadBox(payload, name)),
			),
		];
	});
}

/** The endpoints and the attempts, kept up to date. */
function story(context, message, payload) {
	const { app, get, signal, query, portal } = context;
	const base = `${app}/msg/${message.id}`;
	/** Attempts that are unfolded. @type {Set<string>} */
	const open = new Set([query.get("attempt") ?? ""]);
	/** @type {any[]} */
	let verdicts = [];
	/** @type {any[]} */
	let attempts = [];
	const summary = h("p", "Loading…"), problem = h("div"), none = h("div"), untried = h("div");
	const name = (id) => nameOf(context, verdicts.find((row) => row.endpointId === id) ?? { url: id });
	const toggle = (id) => (open.delete(id) || open.add(id), draw());
	const tries = attemptColumns(context, name, open, toggle);
	const detail = ({ of }) => {
		const cell = h("td", { colspan: tries.length, role: "cell" });
		load(signal, () => get(base + path`/attempt/${of.id}`), (full) => unfolded({ ...of, ...full }, payload), cell);
		return h("tr.detail", { role: "row" }, cell);
	};
	const endpoints = keptTable(
		"Endpoints of this message",
		endpointColumns(context, message.id, payload, () => refresh()),
		(row) => row.endpointId,
	);
	const timeline = keptTable(
		`Attempts, ${portal ? "newest" : "oldest"} first`,
		tries,
		(row) => row.id,
		(row) => row.of ? detail(row) : tableRow(tries, row),
	);
	const draw = () =>
		timeline.set(
			attempts.flatMap((row) =>
				open.has(row.id) ? [{ ...row, open: true }, { id: `detail ${row.id}`, of: row }] : [row]
			),
		);
	const refresh = async () => {
		const [explained, tried] = await Promise.all([
			get(`${base}/explain`),
			get(`${app}/attempt/msg/${message.id}`, { limit: MOST }),
		]);
		verdicts = explained.data;
		attempts = portal ? tried.data : tried.data.reverse();
		endpoints.set(verdicts);
		draw();
		fill(problem);
		fill(summary, sentence(explained.text));
		fill(none, verdicts.length === 0 && empty("There is no endpoint that it could be sent to. ", toAdd(context)));
		fill(
			untried,
			attempts.length === 0 && empty(
				verdicts.some(({ verdict }) => ["sending", "waiting"].includes(verdict))
					? "No attempt yet: one follows at once, unless the endpoint is busy or limited."
					: "No attempt: the message was sent to no endpoint.",
			),
			!tried.done && muted(`Only the newest ${MOST} attempts are shown.`),
		);
	};
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
		section("Endpoints", summary, limits(context, "operate"), endpoints.node, none),
		section("Attempts", timeline.node, untried),
	];
}

function toAdd({ portal, appId }) {
	return portal
		? link("To the endpoints", href(["endpoints"]))
		: link("Add endpoint", href(["app", appId], { add: 1 }));
}

/** @type {Record<string, string>} */
const REASONS = { deleted: "The endpoint was deleted.", disabled: "The endpoint is disabled. Enable it first." };

/** @returns {Column[]} */
function endpointColumns(context, msgId, payload, then) {
	const again = (row) =>
		permitted(context, "operate", "Send again", () => sendAgain(context, { ...row, msgId, state: row.verdict }, then), {
			about: nameOf(context, row),
			reason: REASONS[row.reason] ?? (payload ? null : "The payload is no longer kept, so it cannot be sent."),
		});
	const endpoint = (row) => {
		const name = nameOf(context, row);
		return [
			row.reason === "deleted" ? mono(name) : link(name, context.to.endpoint(row.endpointId)),
			name !== row.url && h("div.mono.muted", row.url),
		];
	};
	return [
		["Endpoint", endpoint],
		["State", (row) => state(word(row.verdict))],
		["Why", (row) => sentence(row.text), "wide"],
		["Tries", (row) => row.attempts, "number"],
		["Next try", (row) => ago(row.nextAttemptAt)],
		["Action", again, "actions"],
	];
}

/** @returns {Column[]} */
function attemptColumns({ to }, name, open, toggle) {
	const details = ({ id, endpointId }) =>
		h("button", {
			type: "button",
			"aria-expanded": String(open.has(id)),
			"aria-description": name(endpointId),
			onclick: () => toggle(id),
		}, "Details");
	return [
		["Time", (row) => when(row.timestamp)],
		["Endpoint", (row) => link(name(row.endpointId), to.endpoint(row.endpointId))],
		["State", (row) => state(attemptState(row))],
		["Answer", answered, "wide"],
		["Trigger", trigger],
		["Details", details, "actions"],
	];
}
