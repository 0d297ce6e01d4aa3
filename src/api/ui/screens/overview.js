/** The overview: what is wrong now. */

import { bars } from "../chart.js";
import { fill, h } from "../dom.js";
import { capped, fresh, keptTable } from "../list.js";
import { ago, count, duration, empty, link, muted, numbers, section, share } from "../parts.js";
import { go, href } from "../route.js";
import { appLink, endpointCell, endpointHref, head } from "./shared.js";
import { taskColumns } from "./tasks.js";

/** @param {Context} context */
export function overview(context) {
	const { get, signal } = context;
	get("app", { limit: 1 }).then(({ data }) => data.length || go(href(["start"]), { replace: true }), () => {});
	const trouble = (state, title, none) =>
		watched(context, title, "endpoint-health", { state }, columns(context), (row) => row.endpointId, none);
	return h(
		"div",
		head("Overview", []),
		fresh(signal, () => queue(context)),
		trouble(
			"failing",
			"Failing endpoints",
			"No endpoint fails. One counts as failing after four failed tries of one message, until a try succeeds.",
		),
		section("Attempts of the last 24 h", fresh(signal, () => day(context), 10)),
		trouble("disabled", "Disabled endpoints", "No endpoint is disabled."),
		trouble(
			"slow",
			"Slow endpoints",
			"No endpoint is slow. One is if more than 5 % of its answers took 5 s or longer in this hour and the one before.",
		),
		watched(
			context,
			"Running tasks",
			"background-task",
			{ status: "running" },
			taskColumns(context),
			(row) => row.id,
			["No task runs. ", link("All tasks", href(["task"]))],
		),
	);
}

async function queue({ get }) {
	const { waiting, due, sending, oldestDueSeconds: oldest, capped } = await get("queue");
	const n = (x) => count(x) + (capped ? " or more" : "");
	const age = oldest === null ? "none" : oldest < 1 ? "under 1 s" : duration(oldest * 1000);
	return numbers(
		["Oldest due", age, "how far sending is behind, now"],
		["Due", n(due), "deliveries that could be sent now"],
		["Waiting", n(waiting), "deliveries, for a next try too, now"],
		["Sending", n(sending), "deliveries under way, now"],
	);
}

async function day({ get }) {
	const { data: [series], stepSeconds } = await get("stats/delivery");
	if (!series || series.delivered + series.failed === 0) {
		return empty("No attempt in the last 24 h. ", link("Send a message", href(["send"])), " to see some.");
	}
	const { delivered, failed, buckets } = series;
	const last = buckets.findLast((bucket) => bucket.p50Ms !== null);
	return [
		numbers(
			["Succeeded", share(delivered, failed), "of all attempts in 24 h"],
			["Delivered", count(delivered), "attempts in 24 h"],
			["Failed", count(failed), "attempts in 24 h, retries too"],
			["Answers took", duration(last?.p50Ms), last && `p50 of the latest hour · p99 ${duration(last.p99Ms)}`],
		),
		bars(buckets, { title: "Attempts by hour, 24 h", step: stepSeconds }),
	];
}

/** @param {Context} context @returns {Column[]} */
const columns = (context) => [
	[
		"Endpoint",
		(row) =>
			endpointCell({ ...row, uid: row.endpointUid, id: row.endpointId }, endpointHref(row.appId, row.endpointId)),
	],
	["Customer", (row) => appLink(context, row.appId)],
	["Since", (row) => ago(row.disabledAt ?? row.failingSince)],
	["Last success", (row) => ago(row.lastSuccessAt)],
	["Last error", (row) => row.lastError ?? "–", "wide"],
	["Waiting", (row) => capped(row.waiting), "number"],
];

/** The first rows of a list, kept up to date. */
function watched({ get, signal }, title, path, query, columns, key, none) {
	const rows = keptTable(title, columns, key), rest = h("div");
	return section(
		title,
		fresh(signal, async () => {
			const { data, done } = await get(path, { ...query, limit: 25 });
			rows.set(data);
			fill(rest, data.length === 0 ? muted(none) : !done && muted("Only the newest 25 are shown."));
			return [rows.node, rest];
		}, 5),
	);
}
