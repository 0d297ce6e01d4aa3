/**
 * The messages: found by id, event id, tag, type and time; and one of them with its deliveries and attempts.
 *
 * @module
 */

import { answered, attemptState, nextTry, sentence, unfolded, word } from "../attempts.js";
import { ApiError, path } from "../api.js";
import { fill, h } from "../dom.js";
import { code, member } from "../json.js";
import {
	action,
	copy,
	empty,
	facts,
	failure,
	input,
	link,
	load,
	mono,
	section,
	show,
	state,
	when,
} from "../parts.js";
import { go, href, setQuery } from "../route.js";
import { filteredList, fresh, head, keptTable, PERIOD, sendAgain } from "../screens/shared.js";
import { endpointHref, limits, messageLink } from "./shared.js";

/** @typedef {import("../portal.js").Context} Context */

/** @param {Context} context */
export function messages(context) {
	context.title("Messages");
	const problem = h("div", { role: "status" });
	const find = input({
		type: "search",
		id: "find",
		"aria-label": "Find",
		placeholder: "Find: message id, event id or tag",
		maxlength: 256,
	});
	const search = async (event) => {
		event.preventDefault();
		const text = find.value.trim();
		if (!text) return;
		fill(problem);
		try {
			await seek(context, text);
		} catch (error) {
			const gone = error instanceof ApiError && error.status === 404;
			fill(problem, gone ? empty(`No message has the id, the event id or the tag ${text}.`) : failure(error));
		}
	};
	const { nodes } = filteredList(context, {
		caption: "Messages, newest first",
		noun: "messages",
		from: `${context.app}/msg?with_content=false`,
		refresh: true,
		columns: [
			["Message", (row) => messageLink(row.id, row.eventId)],
			["Event type", (row) => link(row.eventType, href(["event-types", row.eventType])), "wide"],
			["Tags", (row) => row.tags?.join(", ")],
			["Accepted", (row) => when(row.timestamp)],
		],
		empty: () =>
			location.hash.includes("?")
				? h("p", "No message matches these filters. ", link("Show all", href(["messages"])))
				: h("p", "No message yet. They appear here as soon as something happens that you are told about."),
		filters: [{ name: "event_types", label: "Event type" }, { name: "tag", label: "Tag" }, ...PERIOD],
	});
	return h(
		"div",
		head("Messages", []),
		h(
			"section",
			h(
				"form",
				{ class: "search", role: "search", onsubmit: search },
				find,
				h("button", { type: "submit" }, "Search"),
			),
			problem,
			nodes,
		),
	);
}

/** Goes to the message with this id, or shows those with this tag. */
async function seek({ api, app, signal }, text) {
	const tagged = await api.get(`${app}/msg`, { signal, query: { tag: text, limit: 1, with_content: false } });
	if (tagged.data.length) return setQuery({ tag: text, event_types: "", after: "", before: "" });
	const found = await api.get(app + path`/msg/${text}`, { signal, query: { with_content: false } });
	go(href(["messages", found.id]));
}

/** @param {Context} context */
export function message(context) {
	const { api, app, params, signal, title } = context;
	title("Message");
	const place = h("div");
	load(
		place,
		signal,
		() => api.call("GET", app + path`/msg/${params.message}`, { signal }),
		({ data, text }) => {
			title(data.eventId ?? data.id);
			return page(context, data, member(text, "payload") ?? "");
		},
	);
	return place;
}

function page(context, found, payload) {
	const gone = found.payload?.expired === true;
	return [
		head(found.eventType, [link("Messages", href(["messages"]))]),
		story(context, found, gone ? "" : payload),
		h(
			"div",
			{ class: "columns" },
			section(
				"Message",
				facts(
					["Id", [mono(found.id), " ", copy(found.id, "Id")]],
					found.eventId && ["Event id", mono(found.eventId)],
					["Event type", link(found.eventType, href(["event-types", found.eventType]))],
					["Accepted", when(found.timestamp)],
					found.channels?.length > 0 && ["Channels", found.channels.join(", ")],
					found.tags?.length > 0 &&
						[
							"Tags",
							found.tags.map((
								tag,
								i,
							) => [i > 0 && ", ", link(tag, href(["messages"], { tag }))]),
						],
				),
			),
			section(
				"Content",
				gone ? empty("The content is no longer kept.") : [
					h("div", { class: "buttons bar" }, copy(payload, "Content")),
					code(payload, "Content", { indent: true }),
				],
			),
		),
	];
}

/** What became of a message, kept up to date. */
function story(context, found, payload) {
	const { api, app, signal } = context;
	const base = `${app}/msg/${found.id}`;
	/** @type {any[]} */
	let verdicts = [];
	const name = (id) => verdicts.find((row) => row.endpointId === id)?.url ?? id;
	const open = async (row) => {
		const full = await api.get(`${base}/attempt/${row.id}`, { signal });
		show(
			"Attempt",
			h("p", state(attemptState(row)), ` ${answered(row)}, `, when(row.timestamp)),
			unfolded({ ...row, ...full }, payload),
		);
	};
	const endpoints = keptTable(
		"Endpoints of this message",
		endpointColumns(context, found, payload !== ""),
		(row) => row.endpointId,
	);
	const attempts = keptTable("Attempts, newest first", [
		["Time", (row) => when(row.timestamp)],
		["Endpoint", (row) => link(name(row.endpointId), endpointHref(row.endpointId)), "wide"],
		["State", (row) => state(attemptState(row))],
		["Answer", (row) => answered(row), "wide"],
		["Sent", (row) => row.triggerType === 1 ? "again, when asked for" : "by itself"],
		["Details", (row) => action("Details", () => open(row), { about: row.id }), "actions"],
	], (row) => row.id);
	const summary = h("p"), none = h("div"), untried = h("div");
	const ask = async () => {
		const [explained, tried] = await Promise.all([
			api.get(`${base}/explain`, { signal }),
			api.get(`${app}/attempt/msg/${found.id}`, { signal, query: { limit: 100 } }),
		]);
		verdicts = explained.data;
		fill(summary, sentence(explained.text));
		endpoints.set(verdicts);
		attempts.set(tried.data);
		fill(
			none,
			verdicts.length === 0 &&
				empty(
					"There is no endpoint that it could be sent to. ",
					link("To the endpoints", href(["endpoints"])),
				),
		);
		fill(
			untried,
			tried.data.length === 0 && empty("It was not sent yet."),
			!tried.done && h("p", { class: "muted" }, "The newest 100 attempts are shown."),
		);
		return [
			section("Endpoints", summary, limits(context, "attempts"), endpoints.node, none),
			section("Attempts", attempts.node, untried),
		];
	};
	/** @type {import("../dom.js").Children} */
	let parts;
	return fresh(signal, async () => {
		const made = await ask();
		return parts ??= made;
	}, 3);
}

/** @returns {import("../list.js").Column[]} */
function endpointColumns(context, found, kept) {
	const again = (row) => {
		const reason = row.reason === "deleted"
			? "The endpoint was deleted."
			: row.reason === "disabled"
			? "The endpoint is disabled. Enable it first."
			: kept
			? null
			: "The content is no longer kept, so it cannot be sent.";
		const delivery = {
			msgId: found.id,
			endpointId: row.endpointId,
			state: row.verdict,
			nextAttemptAt: row.nextAttemptAt,
			name: row.url,
		};
		return action("Send again", () => sendAgain(context, context.who.appId, delivery), {
			about: row.url,
			reason,
		});
	};
	return [
		[
			"Endpoint",
			(row) => row.reason === "deleted" ? mono(row.url) : link(row.url, endpointHref(row.endpointId)),
			"wide",
		],
		["State", (row) => state(word(row.verdict))],
		["Why", (row) => sentence(row.text), "wide"],
		["Attempts", (row) => row.attempts, "number"],
		["Next try", (row) => nextTry(row.nextAttemptAt)],
		...(context.can("attempts")
			? [/** @type {import("../list.js").Column} */ (["Action", again, "actions"])]
			: []),
	];
}
