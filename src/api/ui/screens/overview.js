/**
 * The overview: what is wrong now.
 *
 * @module
 */

import { bars } from "../chart.js";
import { fill, h } from "../dom.js";
import { ago, count, duration, empty, link, numbers, section, share } from "../parts.js";
import { go, href } from "../route.js";
import { appLink, capped, endpointHref, fresh, head, keptTable } from "./shared.js";
import { taskColumns } from "./tasks.js";

/** @typedef {import("../console.js").Context} Context */

/** @param {Context} context */
export function overview(context) {
	const { api, signal, title } = context;
	title("Overview");
	api.get("app", { signal, query: { limit: 1 } }).then(
		({ data }) => data.length || go(href(["start"]), { replace: true }),
		() => {},
	);
	return h(
		"div",
		head("Overview", []),
		fresh(signal, () => queue(context)),
		trouble(
			context,
			"failing",
			"Failing endpoints",
			"No endpoint fails. One counts as failing after four failed tries of one message, until a try succeeds.",
		),
		section("Attempts of the last 24 h", fresh(signal, () => day(context), 10)),
		trouble(context, "disabled", "Disabled endpoints", "No endpoint is disabled."),
		trouble(
			context,
			"slow",
			"Slow endpoints",
			"No endpoint is slow. One is if more than 5 % of its answers took 5 s or longer in this hour and the one before.",
		),
		running(context),
	);
}

async function queue({ api, signal }) {
	const { waiting, due, sending, oldestDueSeconds, capped } = await api.get("queue", { signal });
	const n = (x) => count(x) + (capped ? " or more" : "");
	return numbers(
		[
			"Oldest due",
			oldestDueSeconds === null
				? "none"
				: oldestDueSeconds < 1
				? "under 1 s"
				: duration(oldestDueSeconds * 1000),
			"how far sending is behind, now",
		],
		["Due", n(due), "deliveries that could be sent now"],
		["Waiting", n(waiting), "deliveries, for a next try too, now"],
		["Sending", n(sending), "deliveries under way, now"],
	);
}

async function day({ api, signal }) {
	const { data: [series], stepSeconds } = await api.get("stats/delivery", { signal });
	if (!series || series.delivered + series.failed === 0) {
		return empty("No attempt in the last 24 h. ", link("Send a message", href(["send"])), " to see some.");
	}
	const last = series.buckets.findLast((bucket) => bucket.p50Ms !== null);
	return [
		numbers(
			["Succeeded", share(series.delivered, series.failed), "of all attempts in 24 h"],
			["Delivered", count(series.delivered), "attempts in 24 h"],
			["Failed", count(series.failed), "attempts in 24 h, retries too"],
			[
				"Answers took",
				last ? duration(last.p50Ms) : "–",
				last && `p50 of the latest hour · p99 ${duration(last.p99Ms)}`,
			],
		),
		bars(series.buckets, { title: "Attempts by hour, 24 h", step: stepSeconds }),
	];
}

function trouble(context, kind, title, none) {
	const { api, signal } = context;
	const rows = keptTable(title, [
		["Endpoint", (row) => [
			link(row.endpointUid ?? row.endpointId, endpointHref(row.appId, row.endpointId)),
			h("div", { class: "mono muted" }, row.url),
		]],
		["Customer", (row) => appLink(context, row.appId)],
		["Failing since", (row) => row.failingSince ? ago(row.failingSince) : "–"],
		["Last error", (row) => row.lastError ?? "–", "wide"],
		["Waiting", (row) => capped(row.waiting), "number"],
	], (row) => row.endpointId);
	const rest = h("div");
	return section(
		title,
		fresh(signal, async () => {
			const { data, done } = await api.get("endpoint-health", { signal, query: { state: kind, limit: 25 } });
			rows.set(data);
			fill(
				rest,
				data.length === 0
					? h("p", { class: "muted" }, none)
					: !done && h("p", { class: "muted" }, "Only the newest 25 are shown."),
			);
			return [rows.node, rest];
		}, 5),
	);
}

function running(context) {
	const rows = keptTable("Running tasks", taskColumns(context), (row) => row.id);
	return section(
		"Running tasks",
		fresh(context.signal, async () => {
			const { data } = await context.api.get("background-task", {
				signal: context.signal,
				query: { status: "running", limit: 25 },
			});
			rows.set(data);
			return [
				rows.node,
				data.length === 0 && h("p", { class: "muted" }, "No task runs. ", link("All tasks", href(["task"]))),
			];
		}, 5),
	);
}
