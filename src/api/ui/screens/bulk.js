/** Sends many messages to an endpoint again. It says first what it will do, and then how far it is. */

import { isAborted, newest, path } from "../api.js";
import { fill, h } from "../dom.js";
import { fresh } from "../list.js";
import { ask, field, fromLocalInput, hoursAgo, instant, local, plural, state } from "../parts.js";
import { nameOf } from "./shared.js";
import { cancel, progress, taskName } from "./tasks.js";

/** How far back a recovery may reach. */
const HOURS = 14 * 24;

/** @typedef {keyof typeof KINDS} Kind */
const KINDS = {
	recover: {
		button: "Recover",
		title: (name) => `Recover ${name}`,
		text: (n, from) =>
			`${n} accepted since ${from} failed or wait for their next try. Each gets one try more, now, and what was delivered is left alone.`,
	},
	"replay-missing": {
		button: "Replay missing",
		title: (name) => `Replay missing messages to ${name}`,
		text: (n, from) =>
			`${n} accepted since ${from} are looked at. Those that this endpoint wants and that were never sent to it, for example because it was disabled, are sent now.`,
	},
};

/**
 * Asks since when, and starts the task.
 *
 * @param {Context} context
 * @param {any} endpoint
 * @param {Kind} kind
 * @param {(id: string) => void} then
 */
export function startBulk(context, endpoint, kind, then) {
	const { api, app, signal } = context;
	const { button, title, text } = KINDS[kind];
	// One counts as failing after some tries only.
	const wanted = kind === "recover" ? endpoint.failingSince && hoursAgo(1, endpoint.failingSince) : endpoint.disabledAt;
	const since = instant({ required: true }, wanted > hoursAgo(HOURS - 1) ? wanted : hoursAgo(24));
	const until = instant();
	const effect = h("p", { role: "status" });
	const next = newest(signal);
	const preview = async () => {
		const mine = next();
		if (!since.value) return fill(effect);
		const period = { after: fromLocalInput(since.value), before: fromLocalInput(until.value) };
		fill(effect, "Counting…");
		try {
			const n = await amount(context, endpoint.id, kind, period, mine), from = local(period.after);
			fill(effect, n ? text(n, from) : `No message accepted since ${from} needs it.`);
		} catch (error) {
			if (!isAborted(error)) fill(effect, `Not counted: ${/** @type {Error} */ (error).message}`);
		}
	};
	since.addEventListener("change", preview);
	until.addEventListener("change", preview);
	preview();
	const run = async () => {
		const end = until.value && { until: fromLocalInput(until.value) };
		const body = { since: fromLocalInput(since.value), ...end };
		then((await api.post(app + path`/endpoint/${endpoint.id}/${kind}`, body)).id);
	};
	ask(
		{ title: title(nameOf(context, endpoint)), button, run },
		field("Since", since, "At most 14 days before the end."),
		field("Until", until, "Empty: now."),
		effect,
	);
}

/** How many messages it is about, in words. */
async function amount({ api, app }, endpoint, kind, period, signal) {
	const found = await Promise.all(
		kind === "recover"
			? ["failed", "waiting"].map((state) =>
				api.all(`${app}/delivery`, { signal, query: { endpoint_id: endpoint, state, ...period } })
			)
			: [api.all(`${app}/msg`, { signal, query: { ...period, with_content: false } })],
	);
	// A message that waits for its first attempt has not failed.
	const n = found.flatMap(({ data }) => data).filter((row) => row.attempts !== 0).length;
	const exact = found.every(({ done }) => done);
	return n || !exact ? `${exact ? "" : "More than "}${plural(n, "messages")}` : "";
}

/** The tasks of the endpoint that run and the one that was just started, until all have ended. @param {Context} context @param {string} endpoint @param {string} started */
export function tasksOf(context, endpoint, started) {
	const ended = new AbortController();
	const seen = new Set([started]);
	return fresh(AbortSignal.any([context.signal, ended.signal]), async () => {
		const { data } = await context.get("background-task", { limit: 50 });
		const mine = data.filter(({ data }) => data.endpointId === endpoint);
		const running = mine.filter(({ status }) => status === "running");
		for (const { id } of running) seen.add(id);
		if (running.length === 0) ended.abort();
		return mine.filter(({ id }) => seen.has(id)).map((task) =>
			h(
				task.status === "finished" ? "div.done" : "div.note",
				{ "data-task": task.id },
				h("p", h("strong", taskName(task)), ` since ${local(task.data.since)}: `, state(task.status), progress(task)),
				cancel(context, task),
			)
		);
	});
}
