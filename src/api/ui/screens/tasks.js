/** Recoveries and replays: what one will do, how far it is, its end, and the list of all. */

import { isAborted, newest, path } from "../api.js";
import { fill, h, p } from "../dom.js";
import { fresh } from "../list.js";
import {
	ago,
	ask,
	count,
	facts,
	fieldsOf,
	hoursAgo,
	idLink,
	link,
	local,
	mono,
	plural,
	section,
	state,
	when,
} from "../parts.js";
import { href } from "../route.js";
import { appLink, endpointHref, head, listScreen, statesOfMessages } from "./shared.js";

const NAMES = {
	"endpoint.recover": "Recover",
	"endpoint.replay": "Replay missing",
	"endpoint.bulk-replay": "Bulk replay",
};

const taskName = ({ task }) => NAMES[task] ?? task;

/** How far a task is, by the part of its period that it has looked through. */
function progress({ status, data }) {
	const from = +new Date(data.since), whole = +new Date(data.until) - from;
	const part = whole > 0 ? (+new Date(data.reached) - from) / whole : 1, runs = status === "running";
	return [
		runs && h("progress", { value: part, max: 1, "aria-label": "Progress" }),
		` ${plural(data.messagesSent, "messages")} queued, ${count(data.lookedAt)} looked at`,
		runs && ` (${Math.round(part * 100)} % of the period)`,
		data.error && h("div.bad", data.error),
	];
}

function cancel({ api, act }, task) {
	const name = taskName(task);
	const ask = {
		title: `Cancel ${name}?`,
		text: "What it has queued already is sent all the same.",
		run: () => api.post(path`background-task/${task.id}/cancel`),
		done: "Cancelled",
	};
	return task.status === "running" && act("operate", "Cancel", ask, { about: name });
}

const endpoint = ({ data }) => idLink(data.endpointId, endpointHref(data.appId, data.endpointId));
const period = ({ data }) => [when(data.since), " to ", when(data.until)];

/** @param {Context} context @returns {Column[]} */
export function taskColumns(context) {
	return [
		["Task", (row) => link(taskName(row), href(["task", row.id]))],
		["State", (row) => state(row.status)],
		["Endpoint", (row) => [endpoint(row), h("div", appLink(context, row.data.appId))]],
		["Period", period],
		["Progress", progress],
		["Changed", (row) => ago(row.updatedAt)],
		["Action", (row) => cancel(context, row), "actions"],
	];
}

/** @type {View} */
export function tasks(context) {
	const recover = h("i", "Recover"), replay = h("i", "Replay missing");
	return listScreen(context, {
		title: "Tasks",
		caption: "Background tasks, newest first",
		noun: "tasks",
		refresh: 2,
		from: "background-task",
		filters: [
			["status", "State", ["running", "finished", "failed"]],
			["task", "Task", Object.entries(NAMES)],
		],
		columns: taskColumns(context),
		empty: () => p`No such task. ${recover} and ${replay} of an endpoint start one; they are kept for 90 days.`,
	});
}

/** @type {View} */
export function task(context) {
	const { get, signal, params } = context;
	const draw = async () => {
		const row = await get(path`background-task/${params.task}`);
		const rows = taskColumns(context).map(([name, cell]) => [name, cell(row)]);
		return facts(["Id", mono(row.id)], ["Reached", when(row.data.reached)], ...rows);
	};
	return h("div", head("Task", [link("Tasks", href(["task"]))]), section("", fresh(signal, draw)));
}

/** How far back a recovery may reach. */
const HOURS = 14 * 24;

const KINDS = {
	recover: {
		button: "Recover",
		title: (name) => `Recover ${name}`,
		text: "failed or wait for their next try. Each gets one try more, now, and what was delivered is left alone.",
	},
	"replay-missing": {
		button: "Replay missing",
		title: (name) => `Replay missing messages to ${name}`,
		before: "If it is earlier, messages from before the endpoint was added are sent too: it was added at ",
		text: "were never sent to this endpoint, which wants them. They are sent now.",
	},
};

/** Asks since when, and starts the task. @param {Context} context */
export function startBulk(context, endpoint, kind, then) {
	const { api, app, signal, nameOf } = context;
	const { button, title, text, before } = KINDS[kind], made = endpoint.createdAt;
	// One counts as failing after some tries only.
	const wanted = kind === "recover" ? endpoint.failingSince && hoursAgo(1, endpoint.failingSince) : endpoint.disabledAt;
	const effect = h("p", { role: "status" }), next = newest(signal);
	const preview = async () => {
		const mine = next(), { since, until } = fields.read();
		if (!since) return fill(effect);
		fill(effect, "Counting…");
		try {
			const n = await amount(context, endpoint, kind, { after: since, before: until }, mine);
			const from = `accepted since ${local(since)}`;
			fill(effect, n ? `${n} ${from} ${text}` : `No message ${from} needs it.`);
		} catch (error) {
			if (!isAborted(error)) fill(effect, `Not counted: ${error.message}`);
		}
	};
	const fields = fieldsOf(
		{ since: wanted > hoursAgo(HOURS - 1) ? wanted : made > hoursAgo(24) ? made : hoursAgo(24) },
		["since", "Since", ["At most 14 days before the end. ", before && [before, when(made), "."]], {
			type: "datetime-local",
			required: true,
			onchange: preview,
		}],
		["until", "Until", "Empty: now.", { type: "datetime-local", onchange: preview }],
	);
	preview();
	const run = async () => then((await api.post(app + path`/endpoint/${endpoint.id}/${kind}`, fields.read())).id);
	ask({ title: title(nameOf(endpoint)), button, run }, fields.nodes, effect);
}

/** How many messages it is about, in words. */
async function amount(context, { id, eventTypes, channels }, kind, period, signal) {
	const { api, app } = context;
	const all = (list, query) => api.all(`${app}/${list}`, { signal, query: { ...period, ...query } });
	let n, exact;
	if (kind === "recover") {
		const states = ["failed", "waiting"];
		const found = await Promise.all(states.map((state) => all("delivery", { endpoint_id: id, state })));
		// A message that waits for its first attempt has not failed.
		n = found.flatMap(({ data }) => data).filter((row) => row.attempts !== 0).length;
		exact = found.every(({ done }) => done);
	} else {
		const { data, done } = await all("msg", { event_types: eventTypes?.join(","), with_content: false });
		const statesOf = await statesOfMessages(context, data, { endpoint_id: id }, signal);
		const wants = (row) => !channels || row.channels?.some((name) => channels.includes(name));
		n = data.filter((row) => wants(row) && statesOf(row)?.length === 0).length;
		exact = done && statesOf(data.at(-1));
	}
	return n || !exact ? `${exact ? "" : "More than "}${plural(n, "messages")}` : "";
}

/** The tasks of the endpoint that run and the one that was just started, until all have ended. */
export function tasksOf(context, endpoint, started) {
	const ended = new AbortController();
	const seen = new Set([started]);
	return fresh(
		AbortSignal.any([context.signal, ended.signal]),
		async () => {
			const { data } = await context.get("background-task", { limit: 50 });
			const mine = data.filter(({ data }) => data.endpointId === endpoint);
			const running = mine.filter(({ status }) => status === "running");
			for (const { id } of running) seen.add(id);
			if (running.length === 0) ended.abort();
			return mine.filter(({ id }) => seen.has(id)).map((task) =>
				h(
					task.status === "finished" ? "div.done" : "div.note",
					h("p", h("strong", taskName(task)), ` since ${local(task.data.since)}: `, state(task.status), progress(task)),
					cancel(context, task),
				)
			);
		},
		2,
		null,
	);
}
