/** The overview: what is wrong now. */

import { bars } from "../chart.js";
import { fill, h } from "../dom.js";
import { fresh, keptTable } from "../list.js";
import {
	ago,
	capped,
	count,
	duration,
	empty,
	hoursAgo,
	link,
	muted,
	numbers,
	plural,
	section,
	share,
	word,
} from "../parts.js";
import { goInstead, href } from "../route.js";
import { appHref, appLink, endpointCell, endpointHref, head, whyDisabled } from "./shared.js";
import { taskColumns } from "./tasks.js";

/** @type {View} */
export function overview(context) {
	const { get, signal } = context;
	get("app", { limit: 1 }).then(({ data }) => data.length || goInstead(href(["start"])), () => {});
	const first = (path, query) => () => get(path, { ...query, limit: MOST });
	const trouble = (state, title, none) =>
		watched(signal, title, first("endpoint-health", { state }), COLUMNS, none, (row) => row.endpointId);
	const all = ["No task runs. ", link("All tasks", href(["task"]))];
	return h(
		"div",
		head("Overview"),
		fresh(signal, () => queue(context)),
		trouble(
			"failing",
			"Failing endpoints",
			"No endpoint fails. One counts as failing after four failed tries of one message, until a try succeeds.",
		),
		watched(
			signal,
			"Failed attempts of this hour and the one before",
			() => lately(context),
			[
				["Customer", ({ appId }) => appLink(context, appId)],
				["Failed", ({ delivered, failed }) => `${count(failed)} of ${plural(delivered + failed, "attempts")}`],
			],
			"None.",
			(row) => row.appId,
		),
		section("Attempts of the last 24 h", fresh(signal, () => day(context), 10)),
		trouble("disabled", "Disabled endpoints", "No endpoint is disabled."),
		trouble(
			"slow",
			"Slow endpoints",
			"No endpoint is slow. One is if over 5 % of its answers took 5 s or longer in this hour and the one before.",
		),
		watched(signal, "Running tasks", first("background-task", { status: "running" }), taskColumns(context), all),
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
	const { data: [series] } = await get("stats/delivery");
	if (!series || series.delivered + series.failed === 0) {
		return empty("No attempt in the last 24 h. ", link("Send a message", href(["send"])), " to see some.");
	}
	const { delivered, failed, buckets } = series;
	const last = buckets.findLast((bucket) => bucket.p50Ms !== null), now = buckets.at(-1);
	const rate = now.delivered / Math.max(1, (Date.now() - +new Date(now.start)) / 1000);
	return [
		numbers(
			["Succeeded", share(delivered, failed), "of all attempts in 24 h"],
			[
				"Delivered",
				count(delivered),
				`${word(delivered, "attempts")} in 24 h${rate < 0.1 ? "" : ` · ${rate.toFixed(1)} a second in this hour`}`,
			],
			["Failed", count(failed), `${word(failed, "attempts")} in 24 h, retries too`],
			["Answers took", duration(last?.p50Ms), last && `p50 of the latest hour · p99 ${duration(last.p99Ms)}`],
		),
		bars(buckets, { title: "Attempts by hour, 24 h" }),
	];
}

const MOST = 25;

const COLUMNS = [
	["Endpoint", (row) => {
		const place = endpointHref(row.appId, row.endpointId);
		return endpointCell({ ...row, uid: row.endpointUid, id: row.endpointId }, place);
	}],
	["Customer", (row) => link(row.appName, appHref(row.appId))],
	["Since", (row) => row.state === "disabled" ? whyDisabled(row) : ago(row.failingSince)],
	["Last success", (row) => ago(row.lastSuccessAt)],
	["Last error", (row) => row.lastError ?? "–", "wide"],
	["Waiting", (row) => capped(row.waiting), "number"],
];

/** The customers with the most failed attempts of late: an endpoint counts as failing only after some. */
async function lately({ api, signal }) {
	const query = { by: "application", since: hoursAgo(1), step: 7200 };
	const { data, done } = await api.all("stats/delivery", { signal, query });
	const bad = data.filter(({ failed }) => failed).sort((a, b) => b.failed - a.failed);
	return { data: bad.slice(0, MOST), done: done && bad.length <= MOST };
}

/** The first rows of a list, kept up to date. */
function watched(signal, title, read, columns, none, key = (row) => row.id) {
	const rows = keptTable(title, columns, key), rest = h("div");
	return section(
		title,
		fresh(signal, async () => {
			const { data, done } = await read();
			rows.set(data);
			fill(rest, done ? data.length === 0 && muted(none) : muted("There are more, which are not shown."));
			return [rows.node, rest];
		}, 5),
	);
}
