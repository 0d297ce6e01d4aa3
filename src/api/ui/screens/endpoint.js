/** An endpoint: why does it get nothing, and what repairs it; its deliveries, attempts and settings. */

import { path } from "../api.js";
import { answered, attemptState, trigger, unfolded } from "../attempts.js";
import { bars } from "../chart.js";
import { fill, h, p } from "../dom.js";
import { filteredList, fresh, PERIOD } from "../list.js";
import {
	action,
	ago,
	columns,
	confirming,
	count,
	duration,
	facts,
	hoursAgo,
	link,
	load,
	mono,
	note,
	numbers,
	plural,
	say,
	section,
	share,
	show,
	state,
	when,
} from "../parts.js";
import { href, parse } from "../route.js";
import { startBulk, tasksOf } from "./bulk.js";
import { deliveryList } from "./deliveries.js";
import { endpointSettings } from "./endpoint-form.js";
import { endpointState, head, nameOf, noneMatches, permitted, way } from "./shared.js";
import { askForTest, setup } from "./tester.js";

/** The parts of an endpoint; what the first one is differs. @type {Record<string, [text: string, draw: (context: Context, redraw: () => void) => Children]>} */
const PARTS = {
	state: ["State", health],
	delivery: ["Deliveries", (context) => h("section", deliveryList(context, context.params.endpoint))],
	attempt: ["Attempts", (context) => h("section", attempts(context))],
	setup: ["Test and secret", setup],
	settings: ["Settings", settings],
};
const CONSOLE = ["state", "delivery", "attempt", "settings"];
const PORTAL = ["delivery", "state", "attempt", "setup", "settings"];

/** @param {Context} context */
export function endpoint(context) {
	const { get, signal, params, to, portal } = context;
	const parts = portal ? PORTAL : CONSOLE;
	const base = pathOf(context), shown = params.tab ?? parts[0];
	const tasks = h("div");
	let id = "";
	const watch = (started = "") => fill(tasks, tasksOf(context, id, started));
	const redraw = () => header.dispatchEvent(new Event("refresh"));
	/** @type {HTMLElement} */
	const header = fresh(signal, async () => {
		const it = await get(base), name = nameOf(context, it);
		if (!id) {
			id = it.id;
			watch();
		}
		return [
			head(
				[name, " ", endpointState(it)],
				way(context, "endpoints", "Endpoints"),
				actions(context, base, it, redraw, watch),
			),
			h("p", mono(it.url), !portal && it.description && ` · ${it.description}`),
			trouble(it),
		];
	}, 5);
	const tab = (part, i) =>
		link(PARTS[part][0], to.endpoint(params.endpoint, ...(i ? [part] : [])), {
			"aria-current": part === shown ? "page" : null,
		});
	const draw = (PARTS[shown] ?? PARTS[parts[0]])[1];
	return h(
		"div",
		header,
		tasks,
		h("nav.tabs", { "aria-label": "Parts of the endpoint" }, parts.map(tab)),
		draw(context, redraw),
	);
}

function pathOf({ app, params }) {
	return app + path`/endpoint/${params.endpoint}`;
}

const REASONS = /** @type {Record<string, string>} */ ({
	manual: "by a person or a program",
	gone: "since its server answered 410 Gone",
	failing: "since it had failed for too long",
});

/** Since when and why an endpoint is disabled. */
export function whyDisabled({ disabledAt, disabledReason }) {
	return [disabledAt && ago(disabledAt), " ", REASONS[disabledReason]];
}

/** Why nothing arrives, and what to do. */
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

function actions(context, base, it, redraw, watch) {
	const { api, portal } = context, name = nameOf(context, it);
	const enable = async () => {
		await api.patch(base, { disabled: false });
		say(`${name} is enabled`);
		redraw();
	};
	const disable = confirming("Disable", {
		title: `Disable ${name}?`,
		text: "Nothing is sent to it until it is enabled, and messages that come meanwhile are not queued for it.",
		run: () => api.patch(base, { disabled: true }),
		done: `${name} is disabled`,
		then: redraw,
	});
	const reason = it.disabled ? "It is disabled. Enable it first." : null;
	const bulk = (label, kind) =>
		permitted(context, "operate", label, () => startBulk(context, it, kind, watch), { reason });
	return [
		it.disabled
			? permitted(context, "turn", "Enable", enable, { kind: "main" })
			: permitted(context, "turn", "Disable", disable),
		!portal && permitted(context, "operate", "Send test", () => askForTest(context, it), { reason }),
		bulk("Recover", "recover"),
		bulk("Replay missing", "replay-missing"),
	];
}

/** How the endpoint does: bars, figures, and the last success and failure. */
function health(context) {
	const { get, app, appId, signal, params, query } = context;
	const week = query.get("range") === "7d", hours = week ? 168 : 24, range = week ? "7 d" : "24 h";
	const asked = (step) =>
		get("stats/delivery", {
			by: "endpoint",
			app_id: appId,
			endpoint_id: params.endpoint,
			since: hoursAgo(hours),
			step: step * 3600,
		});
	const last = (status) => get(app + path`/attempt/endpoint/${params.endpoint}`, { status, limit: 1 });
	const choice = (name, text) =>
		link(text, href(parse().parts, { range: name }), {
			class: "button",
			"aria-current": (name === "7d") === week ? "true" : null,
		});
	return [
		h("nav.buttons.bar", { "aria-label": "Range" }, choice("", "24 h"), choice("7d", "7 d")),
		fresh(signal, async () => {
			// One bucket longer than the range: its percentiles are those of the whole range.
			const [byTime, whole, good, bad] = await Promise.all([asked(week ? 6 : 1), asked(hours + 1), last(0), last(2)]);
			const { delivered, failed, buckets } = byTime.data[0] ?? { delivered: 0, failed: 0, buckets: [] };
			const sum = whole.data[0]?.buckets[0];
			const byClass = Object.entries(sum?.byClass ?? {}).map((
				[name, n],
			) => /** @type {[string, string, string]} */ ([name === "none" ? "no answer" : name, count(n), "attempts"]));
			const title = `Attempts by ${week ? "6 hours" : "hour"}, ${range}`;
			return [
				numbers(
					["Succeeded", share(delivered, failed), `of ${plural(delivered + failed, "attempts")} in ${range}`],
					["p50", duration(sum?.p50Ms), `of answers in ${range}`],
					["p99", duration(sum?.p99Ms), `of answers in ${range}`],
				),
				columns(
					section(
						"Attempts",
						delivered + failed
							? bars(buckets, { title, step: byTime.stepSeconds })
							: h("p", `No attempt in the last ${range}: no message came that this endpoint wants, or none was due.`),
					),
					section(
						`Answers in ${range}`,
						numbers(...byClass),
						facts(["Last success", lastOne(context, good)], ["Last failure", lastOne(context, bad)]),
					),
				),
			];
		}, 5),
	];
}

function lastOne({ to }, { data: [attempt] }) {
	if (!attempt) return "none is kept";
	return [link(ago(attempt.timestamp), to.message(attempt.msgId, { attempt: attempt.id })), ": ", answered(attempt)];
}

function attempts(context) {
	const { get, app, params, to } = context;
	const details = async (row) => {
		const full = await get(app + path`/msg/${row.msgId}/attempt/${row.id}`);
		show("Attempt", unfolded({ ...row, ...full }));
	};
	return filteredList(context, {
		caption: "Attempts, newest first",
		noun: "attempts",
		refresh: 2,
		from: app + path`/attempt/endpoint/${params.endpoint}`,
		columns: [
			["Time", (row) => when(row.timestamp)],
			["Message", (row) => link(row.msgId, to.message(row.msgId, { attempt: row.id }), { class: "mono" })],
			["State", (row) => state(attemptState(row))],
			["Answer", answered, "wide"],
			["Trigger", trigger],
			["Details", (row) => action("Details", () => details(row), { about: row.id }), "actions"],
		],
		empty: () =>
			parse().query.size ? noneMatches("attempt") : h("p", "No attempt yet. They appear as messages are sent."),
		filters: [
			{ name: "status", label: "State", options: [["0", "delivered"], ["2", "failed"]] },
			{
				name: "status_code_class",
				label: "Answer",
				options: [["200", "2xx"], ["300", "3xx"], ["400", "4xx"], ["500", "5xx"], ["0", "no answer"]],
			},
			{ name: "event_types", label: "Event types" },
			...PERIOD,
		],
	}).nodes;
}

function settings(context, redraw) {
	const { api, get, signal, portal, appId } = context, base = pathOf(context);
	return load(signal, () => get(base), (it) =>
		endpointSettings(context, base, it, {
			write: async (body) => {
				await api.patch(base, body);
				redraw();
			},
			gone: href(portal ? ["endpoints"] : ["app", appId]),
		}));
}
