/** An endpoint: why does it get nothing, and what repairs it; its deliveries, attempts and settings. */

import { path } from "../api.js";
import { answered, attemptColumns } from "../attempts.js";
import { bars } from "../chart.js";
import { fill, h, p } from "../dom.js";
import { fresh, list, noneOf, PERIOD, refresh } from "../list.js";
import {
	ago,
	columns,
	count,
	duration,
	facts,
	goes,
	hoursAgo,
	idLink,
	link,
	mono,
	note,
	numbers,
	plural,
	section,
	share,
	when,
	word,
} from "../parts.js";
import { href, parse } from "../route.js";
import { deliveryList } from "./deliveries.js";
import { endpointSettings } from "./endpoint-form.js";
import { endpointState, head, turn, way, whyDisabled } from "./shared.js";
import { startBulk, tasksOf } from "./tasks.js";
import { setup } from "./tester.js";

/** The parts of an endpoint; what the first one is differs. @type {Record<string, [string, (context: Context, it: any, redraw: () => void) => Children]>} */
const PARTS = {
	state: ["State", health],
	delivery: ["Deliveries", (context) => h("section", deliveryList(context, context.params.endpoint))],
	attempt: ["Attempts", (context, it) => h("section", attempts(context, it))],
	setup: ["Test and secret", setup],
	settings: ["Settings", settings],
};

/** The endpoint that was looked at last, and when: known at once in its next part, so that nothing moves. @type {any[]} */
let last = [];

/** @type {View} */
export function endpoint(context) {
	const { get, signal, params, to, portal, nameOf, who } = context;
	const [state, delivery, ...rest] = Object.keys(PARTS);
	const parts = portal ? [delivery, state, ...rest] : [state, delivery, ...rest];
	const base = pathOf(context), shown = params.tab ?? parts[0];
	const [of, whose, at, it] = last, below = h("div"), tasks = h("div");
	let known = of === base && whose === who && Date.now() - at < 10_000 && it;
	const watch = (started = "") => fill(tasks, tasksOf(context, last[3].id, started));
	const redraw = () => refresh(header);
	const tab = (part, i) =>
		link(PARTS[part][0], to.endpoint(params.endpoint, ...(i ? [part] : [])), {
			"aria-current": part === shown && "page",
		});
	/** @type {HTMLElement} */
	const header = fresh(signal, async () => {
		const it = known || await get(base);
		[known, last] = [null, [base, who, Date.now(), it]];
		if (!below.firstChild) {
			const [, draw] = PARTS[shown] ?? PARTS[parts[0]];
			watch();
			fill(
				below,
				tasks,
				h("nav.tabs", { "aria-label": "Parts of the endpoint" }, parts.map(tab)),
				draw(context, it, redraw),
			);
		}
		return [
			head(
				[nameOf(it), " ", endpointState(it)],
				way(context, "endpoints", "Endpoints"),
				actions(context, it, redraw, watch),
			),
			h("p", mono(it.url), !portal && it.description && ` · ${it.description}`),
			trouble(it),
		];
	}, 5);
	return h("div", header, below);
}

const pathOf = ({ app, params }) => app + path`/endpoint/${params.endpoint}`;

const changes = (context, then) => async (body) => then(await context.api.patch(pathOf(context), body));

function trouble(it) {
	if (it.disabled) {
		return note(
			p`Nothing is sent to this endpoint: it was disabled ${whyDisabled(it)}.`,
			p`What comes meanwhile is not queued for it. After ${h("i", "Enable")}, ${h("i", "Replay missing")} sends it.`,
		);
	}
	const since = it.failingSince;
	return since && note(
		p`It has failed since ${when(since)} (${ago(since)}). Waiting messages are tried again by the schedule.`,
		p`Once its server is repaired, ${h("i", "Recover")} sends at once what has failed.`,
	);
}

function actions(context, it, redraw, watch) {
	const { act } = context;
	const reason = it.disabled ? "It is disabled. Enable it first." : null;
	const operate = (label, run) => act("operate", label, run, { reason });
	return [
		turn(context, "turn", it, changes(context, redraw)),
		operate("Recover", () => startBulk(context, it, "recover", watch)),
		operate("Replay missing", () => startBulk(context, it, "replay-missing", watch)),
	];
}

/** How the endpoint does: bars, figures, and the last success and failure. */
function health(context) {
	const { get, appId, signal, params, query, to } = context;
	const week = query.get("range") === "7d", hours = week ? 168 : 24, range = week ? "7 d" : "24 h";
	const step = week ? 6 : 1, within = `of answers in ${range}`;
	const asked = (step) =>
		get("stats/delivery", {
			by: "endpoint",
			app_id: appId,
			endpoint_id: params.endpoint,
			since: hoursAgo(hours),
			step: step * 3600,
		});
	const last = (status) => get(attemptsOf(context), { status, limit: 1 });
	const lastOne = ({ data: [attempt], done }) =>
		attempt
			? [link(ago(attempt.timestamp), to.message(attempt.msgId, { attempt: attempt.id })), ": ", answered(attempt)]
			: done
			? "none"
			: "none lately";
	const choice = (name, text) =>
		goes(text, href(parse().parts, { range: name }), { "aria-current": (name === "7d") === week && "true" });
	return [
		h("nav.buttons.bar", { "aria-label": "Range" }, choice("", "24 h"), choice("7d", "7 d")),
		fresh(signal, async () => {
			// One bucket longer than the range: its percentiles are those of the whole range.
			const [byTime, whole, good, bad] = await Promise.all([asked(step), asked(hours + 1), last(0), last(2)]);
			const { delivered, failed, buckets } = byTime.data[0] ?? { delivered: 0, failed: 0, buckets: [] };
			const sum = whole.data[0]?.buckets[0], all = delivered + failed;
			const none = `No attempt in the last ${range}: no message came that it wants.`;
			const figure = ([name, n]) => [name === "none" ? "no answer" : name, count(n), word(n, "attempts")];
			const byClass = Object.entries(sum?.byClass ?? {}).map(figure);
			return [
				numbers(
					["Succeeded", share(delivered, failed), `of ${plural(all, "attempts")} in ${range}`],
					["p50", duration(sum?.p50Ms), within],
					["p99", duration(sum?.p99Ms), within],
				),
				columns(
					section(
						"Attempts",
						all
							? bars(buckets, { title: `Attempts by ${week ? "6 hours" : "hour"}, ${range}`, step: step * 3600 })
							: h("p", none),
					),
					section(
						`Answers in ${range}`,
						numbers(...byClass),
						facts(["Last success", lastOne(good)], ["Last failure", lastOne(bad)]),
					),
				),
			];
		}, 5),
	];
}

const attemptsOf = ({ app, params }) => app + path`/attempt/endpoint/${params.endpoint}`;

function attempts(context, { url }) {
	const { to } = context;
	return list(context, {
		caption: "Attempts, newest first",
		noun: "attempts",
		refresh: 2,
		from: attemptsOf(context),
		columns: attemptColumns(context, ["Message", (row) => idLink(row.msgId, to.message(row.msgId))], () => url),
		empty: () => noneOf("attempt", "No attempt yet. They appear as messages are sent."),
		filters: [
			["status", "State", [["0", "delivered"], ["2", "failed"]]],
			[
				"status_code_class",
				"Answer",
				[["200", "2xx"], ["300", "3xx"], ["400", "4xx"], ["500", "5xx"], ["0", "no answer"]],
			],
			["event_types", "Event types"],
			...PERIOD,
		],
	}).nodes;
}

function settings(context, it, redraw) {
	const { portal, appId } = context;
	const gone = href(portal ? ["endpoints"] : ["app", appId]);
	return endpointSettings(context, pathOf(context), it, changes(context, redraw), gone);
}
