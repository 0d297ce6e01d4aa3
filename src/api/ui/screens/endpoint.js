/**
 * An endpoint: why does this customer get nothing, and what repairs it.
 *
 * @module
 */

import { newest, path } from "../api.js";
import { answered, attemptState, unfolded } from "../attempts.js";
import { bars } from "../chart.js";
import { fill, h } from "../dom.js";
import {
	action,
	ago,
	ask,
	count,
	duration,
	facts,
	field,
	fromLocalInput,
	hoursAgo,
	input,
	link,
	load,
	mono,
	numbers,
	say,
	section,
	select,
	share,
	show,
	state,
	toLocalInput,
	when,
} from "../parts.js";
import { go, href, parse } from "../route.js";
import { deliveryList } from "./deliveries.js";
import { endpointSettings } from "./endpoint-form.js";
import {
	asking,
	endpointHref,
	endpointState,
	filteredList,
	fresh,
	head,
	messageHref,
	PERIOD,
	way,
} from "./shared.js";
import { watched } from "./tasks.js";

/** @typedef {import("../console.js").Context} Context */

const REASONS = /** @type {Record<string, string>} */ ({
	manual: "by a person or a program",
	gone: "since its receiver answered 410 Gone",
	failing: "since it had failed for too long",
});
const TABS = [["", "State"], ["delivery", "Deliveries"], ["attempt", "Attempts"], ["settings", "Settings"]];

/** @param {Context} context */
export function endpoint(context) {
	const { api, signal, params, title } = context;
	const base = path`app/${params.app}/endpoint/${params.endpoint}`;
	const tab = params.tab ?? "";
	const started = h("div");
	/** @type {HTMLElement} */
	const header = fresh(signal, async () => {
		const it = await api.get(base, { signal });
		title(it.uid ?? it.url);
		return [
			head(
				[it.uid ?? it.url, " ", endpointState(it)],
				way(context, params.app),
				actions(context, base, it, started, () => header.dispatchEvent(new Event("refresh"))),
			),
			h("p", mono(it.url), it.description && ` · ${it.description}`),
			trouble(it),
		];
	}, 5);
	const draw = /** @type {Record<string, () => import("../dom.js").Children>} */ ({
		delivery: () => h("section", deliveryList(context, params.endpoint)),
		attempt: () => h("section", attempts(context)),
		settings: () => settings(context, base),
	})[tab] ?? (() => health(context));
	return h(
		"div",
		header,
		started,
		h(
			"nav",
			{ class: "tabs", "aria-label": "Parts of the endpoint" },
			...TABS.map(([name, text]) =>
				link(text, endpointHref(params.app, params.endpoint) + (name && `/${name}`), {
					"aria-current": name === tab ? "page" : null,
				})
			),
		),
		draw(),
	);
}

/** Why nothing arrives, and what to do. */
function trouble({ disabled, disabledAt, disabledReason, failingSince }) {
	if (disabled) {
		return h(
			"div",
			{ class: "note" },
			h(
				"p",
				"Nothing is sent here. It was disabled ",
				disabledAt ? ago(disabledAt) : "",
				" ",
				REASONS[disabledReason] ?? "",
				".",
			),
			h(
				"p",
				"Messages that came since are not queued for it: after ",
				h("i", "Enable"),
				", ",
				h("i", "Replay missing"),
				" sends them.",
			),
		);
	}
	if (failingSince) {
		return h(
			"div",
			{ class: "note" },
			h(
				"p",
				"It has failed since ",
				when(failingSince),
				" (",
				ago(failingSince),
				"). Waiting messages are tried again by the schedule.",
			),
			h(
				"p",
				"Once the receiver is repaired, ",
				h("i", "Recover"),
				" sends at once what has failed.",
			),
		);
	}
	return null;
}

function actions(context, base, it, started, redraw) {
	const { api, may } = context;
	const name = it.uid ?? it.url;
	const reason = may("operate");
	const enable = async () => {
		await api.patch(base, { disabled: false });
		say(`${name} is enabled`);
		redraw();
	};
	const disable = () =>
		asking("Disable", {
			title: `Disable ${name}?`,
			text:
				"Nothing is sent to it until it is enabled, and messages that come meanwhile are not queued for it.",
			run: () => api.patch(base, { disabled: true }),
			done: `${name} is disabled`,
			then: redraw,
			reason,
		});
	const off = reason ?? (it.disabled ? "It is disabled. Enable it first." : null);
	return [
		it.disabled ? action("Enable", enable, { reason, kind: "main" }) : disable(),
		action("Send test", () => sendTest(context, base, name), { reason: off }),
		action("Recover", () => recover(context, base, it, started), { reason: off }),
		action("Replay missing", () => replayMissing(context, base, it, started), { reason: off }),
	];
}

async function sendTest({ api, params, signal }, base, name) {
	const { data } = await api.all("event-type", { query: { with_content: true }, signal, most: 250 });
	const withExample = data.filter((type) =>
		Object.values(type.schemas ?? {}).some((schema) => schema?.examples?.length)
	);
	const type = select(
		[["svix.ping", "svix.ping (a built-in ping)"], ...withExample.map(({ name }) => name)],
		"svix.ping",
	);
	const run = async () => {
		const sent = await api.post(`${base}/send-example`, { eventType: type.value });
		go(messageHref(params.app, sent.id));
	};
	await ask(
		{ title: `Send a test to ${name}`, button: "Send test", run },
		field(
			"Event type",
			type,
			"Its example is sent to this endpoint alone, and the message's page shows what it answers.",
		),
	);
}

/** Since when a repair looks, with a sentence of what it will do, kept up to date. */
function period(it, tell) {
	const from = it.failingSince && it.failingSince > hoursAgo(13 * 24)
		? hoursAgo(1, it.failingSince)
		: hoursAgo(24);
	const since = input({ type: "datetime-local", required: true, value: toLocalInput(from) });
	const until = input({ type: "datetime-local" });
	const text = h("p", { role: "status" });
	const read = () => ({
		since: fromLocalInput(since.value),
		...(until.value ? { until: fromLocalInput(until.value) } : {}),
	});
	const update = () => since.value && tell(read().since, fromLocalInput(until.value), text);
	since.addEventListener("change", update);
	until.addEventListener("change", update);
	update();
	return {
		read,
		node: [
			field(
				"Since",
				since,
				it.failingSince
					? "Preset to an hour before it began to count as failing."
					: "At most 14 days before the end.",
			),
			field("Until", until, "Empty: now."),
			text,
		],
	};
}

function recover(context, base, it, started) {
	const { api, signal } = context;
	const next = newest(signal);
	const name = it.uid ?? it.url;
	const times = period(it, async (after, before, text) => {
		const mine = next();
		text.textContent = "Counting…";
		const counted = (status) =>
			api.all(`${base}/msg`, { signal: mine, query: { status, after, before, with_content: false } });
		const some = ({ data, done }) => (done ? "" : "more than ") + count(data.length);
		try {
			// In this list 2 is a message that failed for good, and 3 one that waits for its next try.
			const [failed, waiting] = await Promise.all([counted(2), counted(3)]);
			text.textContent =
				`Of the messages accepted since then, ${some(failed)} failed for good and ${some(waiting)} ` +
				"failed and wait for a next try. Each gets one try more, now; so do older ones whose tries failed since then.";
		} catch (error) {
			if (!mine.aborted) {
				text.textContent = `How many cannot be counted now: ${/** @type {Error} */ (error).message}`;
			}
		}
	});
	return ask(
		{
			title: `Recover ${name}`,
			button: "Recover",
			run: async () => begun(context, started, await api.post(`${base}/recover`, times.read())),
		},
		h("p", "Sends again what was tried since then and never delivered."),
		times.node,
	);
}

function replayMissing(context, base, it, started) {
	const times = period(it, (since, _until, text) => {
		text.textContent = `Every message since ${
			new Date(since).toLocaleString()
		} that it wants now and that was never sent to it gets one try. How many these are, the task counts as it goes.`;
	});
	return ask({
		title: `Replay missing messages to ${it.uid ?? it.url}`,
		button: "Replay missing",
		run: async () => begun(context, started, await context.api.post(`${base}/replay-missing`, times.read())),
	}, times.node);
}

function begun(context, started, task) {
	fill(started, section("Started", watched(context, task.id)));
}

/** How the endpoint does: bars, figures, and the last success and failure. */
function health(context) {
	const { api, signal, params, query } = context;
	const week = query.get("range") === "7d";
	const hours = week ? 168 : 24;
	const range = week ? "7 d" : "24 h";
	const asked = (step) =>
		api.get("stats/delivery", {
			signal,
			query: {
				by: "endpoint",
				app_id: params.app,
				endpoint_id: params.endpoint,
				since: hoursAgo(hours),
				step: step * 3600,
			},
		});
	const last = (status) =>
		api.get(path`app/${params.app}/attempt/endpoint/${params.endpoint}`, {
			signal,
			query: { status, limit: 1 },
		});
	return [
		h(
			"nav",
			{ class: "buttons bar", "aria-label": "Range" },
			...["24h", "7d"].map((name) =>
				link(name.replace(/(\d+)/, "$1 "), href(parse().parts, { range: name === "7d" ? name : "" }), {
					class: "button",
					"aria-current": (name === "7d") === week ? "true" : null,
				})
			),
		),
		fresh(signal, async () => {
			// One bucket longer than the range: its percentiles are those of the whole range.
			const [byTime, whole, good, bad] = await Promise.all([
				asked(week ? 6 : 1),
				asked(hours + 1),
				last(0),
				last(2),
			]);
			const series = byTime.data[0] ?? { delivered: 0, failed: 0, buckets: [] };
			const sum = whole.data[0]?.buckets[0];
			const attempts = series.delivered + series.failed;
			return [
				numbers(
					["Succeeded", share(series.delivered, series.failed), `of ${count(attempts)} attempts in ${range}`],
					["p50", duration(sum?.p50Ms), `of answers in ${range}`],
					["p99", duration(sum?.p99Ms), `of answers in ${range}`],
				),
				h(
					"div",
					{ class: "columns" },
					section(
						"Attempts",
						attempts
							? bars(series.buckets, {
								title: `Attempts by ${week ? "6 hours" : "hour"}, ${range}`,
								step: byTime.stepSeconds,
							})
							: h(
								"p",
								`No attempt in the last ${range}: no message came that this endpoint wants, or none was due. `,
								link("Deliveries", endpointHref(params.app, params.endpoint) + "/delivery"),
								" shows what waits.",
							),
					),
					section(
						`Answers in ${range}`,
						numbers(
							.../** @type {[string, number][]} */ (Object.entries(sum?.byClass ?? {})).map((
								[name, n],
							) => /** @type {[string, string, string]} */ ([
								name === "none" ? "no answer" : name,
								count(n),
								"attempts",
							])),
						),
						facts(["Last success", lastOne(params.app, good.data[0])], [
							"Last failure",
							lastOne(params.app, bad.data[0]),
						]),
					),
				),
			];
		}, 5),
	];
}

function lastOne(app, attempt) {
	return attempt
		? [
			link(ago(attempt.timestamp), messageHref(app, attempt.msgId, { attempt: attempt.id })),
			": ",
			answered(attempt),
		]
		: "none is kept";
}

/** @param {Context} context */
function attempts(context) {
	const { api, params: { app, endpoint } } = context;
	const details = async (row) => {
		const full = await api.get(path`app/${app}/msg/${row.msgId}/attempt/${row.id}`);
		show("Attempt", unfolded({ ...row, ...full }, ""));
	};
	return filteredList(context, {
		caption: "Attempts, newest first",
		noun: "attempts",
		refresh: true,
		from: path`app/${app}/attempt/endpoint/${endpoint}`,
		columns: [
			["Time", (row) => when(row.timestamp)],
			[
				"Message",
				(row) => link(row.msgId, messageHref(app, row.msgId, { attempt: row.id }), { class: "mono" }),
			],
			["State", (row) => state(attemptState(row))],
			["Answer", (row) => answered(row), "wide"],
			["Trigger", (row) => row.triggerType === 1 ? "by hand" : "schedule"],
			["Details", (row) => action("Details", () => details(row), { about: row.id }), "actions"],
		],
		empty: () => h("p", "No attempt yet. They appear as messages are sent."),
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

function settings(context, base) {
	const { api, signal, params } = context;
	const place = h("div");
	load(
		place,
		signal,
		() => api.get(base, { signal }),
		(it) =>
			endpointSettings(context, base, it, {
				write: (body) => api.patch(base, body),
				gone: href(["app", params.app]),
			}),
	);
	return place;
}
