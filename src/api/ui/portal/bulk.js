/**
 * Sends many messages to an endpoint again: what failed, and what it has missed. It says first what it will
 * do, and then how far it is.
 *
 * @module
 */

import { isAborted, newest } from "../api.js";
import { fill, h } from "../dom.js";
import { ask, count, field, fromLocalInput, hoursAgo, input, local, state, toLocalInput } from "../parts.js";
import { fresh } from "../screens/shared.js";
import { cancel, progress } from "../screens/tasks.js";

/** @typedef {import("../portal.js").Context} Context */

/** How far back a recovery may reach. */
const DAYS = 14;
/** Counting ends here: what follows is a number that only says "many". */
const MOST = 1000;

const KINDS = {
	recover: {
		button: "Recover",
		title: "Send again what failed?",
		text: (n, from) =>
			`${n} accepted since ${from} failed or wait for their next try. Each of them is sent once more, now. What was delivered is left alone.`,
	},
	"replay-missing": {
		button: "Replay missing",
		title: "Send what this endpoint has missed?",
		text: (n, from) =>
			`${n} accepted since ${from} are looked at. Those of the endpoint's event types that were never sent to it, for example because it was disabled, are sent now. All others are left alone.`,
	},
};

/**
 * Asks since when, and starts the task.
 *
 * @param {Context} context
 * @param {any} endpoint
 * @param {keyof typeof KINDS} kind
 * @param {(id: string) => void} then
 */
export function startBulk(context, endpoint, kind, then) {
	const { api, app, signal } = context;
	const { button, title, text } = KINDS[kind];
	const earliest = hoursAgo(24 * DAYS);
	const wanted = kind === "recover" ? endpoint.failingSince : endpoint.disabledAt;
	const start = wanted && wanted > earliest ? wanted : hoursAgo(24);
	const control = input({
		type: "datetime-local",
		required: true,
		value: toLocalInput(start),
		max: toLocalInput(hoursAgo(0)),
	});
	if (kind === "recover") control.min = toLocalInput(hoursAgo(24 * DAYS - 1));
	const effect = h("p", { role: "status" });
	const next = newest(signal);
	const preview = async () => {
		const mine = next();
		if (!control.value) return void fill(effect);
		const since = fromLocalInput(control.value);
		fill(effect, "Counting…");
		try {
			const n = await amount(context, endpoint.id, kind, since, mine);
			if (mine.aborted) return;
			fill(effect, n ? text(n, local(since)) : `No message accepted since ${local(since)} needs it.`);
		} catch (error) {
			if (!isAborted(error)) fill(effect, `Not counted: ${/** @type {Error} */ (error).message}`);
		}
	};
	control.addEventListener("change", preview);
	preview();
	const run = async () => {
		const since = fromLocalInput(control.value);
		const { id } = await api.post(`${app}/endpoint/${endpoint.id}/${kind}`, { since });
		then(id);
	};
	const hint = kind === "recover" ? `At most ${DAYS} days ago.` : null;
	return ask({ title, button, run }, field("Since", control, hint), effect);
}

/**
 * How many messages it is about, in words.
 *
 * @param {Context} context
 * @param {string} endpoint
 * @param {keyof typeof KINDS} kind
 * @param {string} after
 * @param {AbortSignal} signal
 */
async function amount({ api, app }, endpoint, kind, after, signal) {
	const found = kind === "recover"
		? await Promise.all(
			["failed", "waiting"].map((state) =>
				api.all(`${app}/delivery`, { signal, most: MOST, query: { endpoint_id: endpoint, state, after } })
			),
		)
		: [await api.all(`${app}/msg`, { signal, most: MOST, query: { after, with_content: false } })];
	// A message that waits for its first attempt has not failed.
	const n = found.flatMap(({ data }) => data).filter((row) => row.attempts !== 0).length;
	const exact = found.every(({ done }) => done);
	if (n === 0 && exact) return "";
	return `${exact ? count(n) : `More than ${count(n)}`} ${n === 1 && exact ? "message" : "messages"}`;
}

/**
 * The tasks of an endpoint that run and the one that was just started, until all have ended.
 *
 * @param {Context} context
 * @param {string} endpoint
 * @param {string} [started]
 */
export function bulkTasks(context, endpoint, started) {
	const { api, can } = context;
	const ended = new AbortController();
	const signal = AbortSignal.any([context.signal, ended.signal]);
	/** @type {Set<string>} */
	const seen = new Set(started ? [started] : []);
	return fresh(signal, async () => {
		const { data } = await api.get("background-task", { signal: context.signal, query: { limit: 50 } });
		const mine = data.filter(({ data }) => data.endpointId === endpoint);
		const running = mine.filter(({ status }) => status === "running");
		for (const { id } of running) seen.add(id);
		if (running.length === 0) ended.abort();
		return mine.filter(({ id }) => seen.has(id)).map((task) =>
			h(
				"div",
				{ class: task.status === "finished" ? "done" : "note", "data-task": task.id },
				h(
					"p",
					h("strong", task.task === "endpoint.recover" ? "Recover" : "Replay missing"),
					` since ${local(task.data.since)}: `,
					state(task.status),
					progress(task),
				),
				can("attempts") && cancel(context, task),
			)
		);
	});
}
