/** A message: what it says, how far it has come at each endpoint and why, and every attempt. */

import { path } from "../api.js";
import { attemptColumns, sentence, showAttempt } from "../attempts.js";
import { fill, h } from "../dom.js";
import { member, payload as payloadBox } from "../json.js";
import { fresh, keptTable, load, refresh } from "../list.js";
import { ago, columns, copy, count, empty, facts, link, mono, muted, section, state, when } from "../parts.js";
import { addEndpoint } from "./endpoint-form.js";
import { head, limits, sendAgain, way } from "./shared.js";

const MOST = 250;

/** @type {View} */
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
	const { act, app, appId, get, signal, query, portal, nameOf, to } = context;
	/** @type {any[]} */
	let verdicts = [];
	let wanted = query.get("attempt");
	const at = ({ endpointId: id }) => verdicts.find((row) => row.endpointId === id) ?? { url: id };
	const summary = h("p"), none = h("div"), polls = h("div"), untried = h("div");
	const endpoints = keptTable(
		"Endpoints of this message",
		endpointColumns(context, message.id, payload, () => refresh(node)),
		(row) => row.endpointId,
	);
	const timeline = keptTable(
		`Attempts, ${portal ? "newest" : "oldest"} first`,
		attemptColumns(
			context,
			["Endpoint", (row) => link(nameOf(at(row)), to.endpoint(row.endpointId))],
			(row) => at(row).url,
			payload,
		),
		(row) => row.id,
	);
	const parts = [
		section("Endpoints", summary, limits(context, "operate"), endpoints.node, none, polls),
		section("Attempts", timeline.node, untried),
	];
	const toAdd = act("manage", "Add endpoint", () => addEndpoint(context, appId));
	const node = fresh(signal, async () => {
		const [explained, { data, done }] = await Promise.all([
			get(`${app}/msg/${message.id}/explain`),
			get(`${app}/attempt/msg/${message.id}`, { limit: MOST }),
		]);
		verdicts = explained.data;
		endpoints.set(verdicts);
		timeline.set(portal ? data : data.reverse());
		fill(summary, sentence(explained.text));
		fill(
			polls,
			explained.pollers.map((row) =>
				h("p", link(row.pollerUid ?? row.pollerId, to.poller(row.pollerId)), ": ", sentence(row.text))
			),
		);
		fill(none, verdicts.length === 0 && empty("There is no endpoint that it could be sent to. ", toAdd));
		const why = verdicts.some(({ verdict }) => ["sending", "waiting"].includes(verdict))
			? "No attempt yet: one follows at once, unless the endpoint is busy or limited."
			: "No attempt: the message was sent to no endpoint.";
		fill(untried, data.length === 0 && empty(why), !done && muted(`Only the newest ${MOST} attempts are shown.`));
		const row = data.find(({ id }) => id === wanted);
		wanted = null;
		if (row) showAttempt(context, row, payload);
		return parts;
	}, 5);
	return node;
}

/** @returns {Column[]} */
function endpointColumns(context, msgId, payload, then) {
	const { act, nameOf, to } = context;
	const reasons = { deleted: "The endpoint was deleted.", disabled: "The endpoint is disabled. Enable it first." };
	const again = (row) =>
		act("operate", "Send again", () => sendAgain(context, { ...row, msgId, state: row.verdict }, then), {
			about: nameOf(row),
			reason: reasons[row.reason] ?? (payload ? null : "The payload is no longer kept, so it cannot be sent."),
		});
	const endpoint = (row) => {
		const name = nameOf(row);
		return [
			row.reason === "deleted" ? mono(name) : link(name, to.endpoint(row.endpointId)),
			name !== row.url && h("div.mono.muted", row.url),
		];
	};
	return [
		["Endpoint", endpoint],
		["State", ({ verdict }) => state(verdict === "notSent" ? "not sent" : verdict)],
		["Why", (row) => sentence(row.text), "wide"],
		["Tries", (row) => row.attempts, "number"],
		["Next try", (row) => ago(row.nextAttemptAt)],
		["Action", again, "actions"],
	];
}
