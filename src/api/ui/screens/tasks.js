/** Background tasks: recoveries and replays, how far they are, and their end. */

import { path } from "../api.js";
import { h, p } from "../dom.js";
import { fresh } from "../list.js";
import { ago, confirming, count, facts, link, mono, plural, section, state, when } from "../parts.js";
import { href } from "../route.js";
import { appLink, endpointHref, head, listScreen, permitted } from "./shared.js";

const NAMES = /** @type {Record<string, string>} */ ({
	"endpoint.recover": "Recover",
	"endpoint.replay": "Replay missing",
	"endpoint.bulk-replay": "Bulk replay",
});

export const taskName = ({ task }) => NAMES[task] ?? task;

/** How far a task is, by the part of its period that it has looked through. */
export function progress({ status, data }) {
	const from = +new Date(data.since), whole = +new Date(data.until) - from;
	const part = whole > 0 ? (+new Date(data.reached) - from) / whole : 1, runs = status === "running";
	return [
		runs && h("progress", { value: part, max: 1, "aria-label": "Progress" }),
		` ${plural(data.messagesSent, "messages")} queued, ${count(data.lookedAt)} looked at`,
		runs && ` (${Math.round(part * 100)} % of the period)`,
		data.error && h("div.bad", data.error),
	];
}

/** @param {Context} context @param {any} task */
export function cancel(context, task) {
	const ask = confirming("Cancel", {
		title: `Cancel ${taskName(task)}?`,
		text: "What it has queued already is sent all the same.",
		run: () => context.api.post(path`background-task/${task.id}/cancel`),
		done: "Cancelled",
	});
	return task.status === "running" && permitted(context, "operate", "Cancel", ask, { about: taskName(task) });
}

const endpoint = ({ data }) => link(data.endpointId, endpointHref(data.appId, data.endpointId), { class: "mono" });
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

/** @param {Context} context */
export function tasks(context) {
	return listScreen(context, {
		title: "Tasks",
		caption: "Background tasks, newest first",
		noun: "tasks",
		refresh: 2,
		from: "background-task",
		filters: [
			{ name: "status", label: "State", options: ["running", "finished", "failed"] },
			{ name: "task", label: "Task", options: Object.entries(NAMES) },
		],
		columns: taskColumns(context),
		empty: () =>
			p`No such task. ${h("i", "Recover")} and ${
				h("i", "Replay missing")
			} of an endpoint start one; they are kept for 90 days.`,
	}).node;
}

/** @param {Context} context */
export function task(context) {
	const { get, signal, params } = context;
	const draw = async () => {
		const row = await get(path`background-task/${params.task}`);
		return [
			facts(
				["Id", mono(row.id)],
				["Task", taskName(row)],
				["State", state(row.status)],
				["Progress", progress(row)],
				["Application", appLink(context, row.data.appId)],
				["Endpoint", endpoint(row)],
				["Period", period(row)],
				["Reached", when(row.data.reached)],
				["Changed", when(row.updatedAt)],
			),
			cancel(context, row),
		];
	};
	return h("div", head("Task", [link("Tasks", href(["task"]))]), section("", fresh(signal, draw)));
}
