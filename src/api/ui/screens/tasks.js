/**
 * Background tasks: recoveries and replays, how far they are, and their end.
 *
 * @module
 */

import { path } from "../api.js";
import { h } from "../dom.js";
import { ago, count, facts, link, mono, section, state, when } from "../parts.js";
import { href } from "../route.js";
import { appLink, asking, endpointHref, fresh, head, listScreen } from "./shared.js";

/** @typedef {import("../console.js").Context} Context */

const NAMES = /** @type {Record<string, string>} */ ({
	"endpoint.recover": "Recover",
	"endpoint.replay": "Replay missing",
	"endpoint.bulk-replay": "Bulk replay",
});

const name = (task) => NAMES[task.task] ?? task.task;

/** How far a task is, by the part of its period that it has looked through. @param {any} task */
export function progress({ status, data }) {
	const whole = +new Date(data.until) - +new Date(data.since);
	const part = status === "finished" || whole <= 0
		? 1
		: (+new Date(data.reached) - +new Date(data.since)) / whole;
	return [
		status === "running" && h("progress", { value: part, max: 1, "aria-label": "Progress" }),
		` ${count(data.messagesSent)} messages queued, ${count(data.lookedAt)} looked at`,
		status === "running" && ` (${Math.round(part * 100)} % of the period)`,
		data.error && h("div", { class: "bad" }, data.error),
	];
}

/** @param {Context} context @param {any} task */
export function cancel({ api, may }, task) {
	return task.status === "running" && asking("Cancel", {
		title: `Cancel ${name(task)}?`,
		text: "What it has queued already is sent all the same.",
		run: () => api.post(path`background-task/${task.id}/cancel`),
		done: "Cancelled",
		reason: may("operate"),
		about: name(task),
	});
}

/** A task that was just started, until it has ended. @param {Context} context @param {string} id */
export function watched(context, id) {
	const ended = new AbortController();
	const signal = AbortSignal.any([context.signal, ended.signal]);
	return fresh(signal, async () => {
		const task = await context.api.get(path`background-task/${id}`, { signal: context.signal });
		if (task.status !== "running") ended.abort();
		return [
			h("p", link(name(task), href(["task", id])), " ", state(task.status), " ", progress(task)),
			cancel(context, task),
		];
	}, 1);
}

/** @param {Context} context @returns {import("../list.js").Column[]} */
export function taskColumns(context) {
	return [
		["Task", (row) => link(name(row), href(["task", row.id]))],
		["State", (row) => state(row.status)],
		[
			"Endpoint",
			(
				row,
			) => [
				link(row.data.endpointId, endpointHref(row.data.appId, row.data.endpointId), { class: "mono" }),
				h("div", appLink(context, row.data.appId)),
			],
		],
		["Period", (row) => [when(row.data.since), " to ", when(row.data.until)]],
		["Progress", (row) => progress(row)],
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
		refresh: true,
		from: "background-task",
		filters: [
			{ name: "status", label: "State", options: ["running", "finished", "failed"] },
			{ name: "task", label: "Task", options: Object.entries(NAMES) },
		],
		columns: taskColumns(context),
		empty: () =>
			h(
				"p",
				"No such task. ",
				h("i", "Recover"),
				" and ",
				h("i", "Replay missing"),
				" on the page of an endpoint start one. Tasks are kept for 90 days.",
			),
	}).node;
}

/** @param {Context} context */
export function task(context) {
	const { api, signal, params, title } = context;
	title("Task");
	return h(
		"div",
		head("Task", [link("Tasks", href(["task"]))]),
		section(
			"",
			fresh(signal, async () => {
				const row = await api.get(path`background-task/${params.task}`, { signal });
				title(name(row));
				return [
					facts(
						["Id", mono(row.id)],
						["Task", name(row)],
						["State", state(row.status)],
						["Progress", progress(row)],
						["Application", appLink(context, row.data.appId)],
						["Endpoint", link(row.data.endpointId, endpointHref(row.data.appId, row.data.endpointId))],
						["Period", [when(row.data.since), " to ", when(row.data.until)]],
						["Reached", when(row.data.reached)],
						["Changed", when(row.updatedAt)],
					),
					cancel(context, row),
				];
			}),
		),
	);
}
