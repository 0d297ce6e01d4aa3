/**
 * An endpoint: why does this customer get nothing, and what repairs it.
 *
 * @module
 */

import { newest, path } from "../api.js";
import { answered, attemptState, unfolded } from "../attempts.js";
import { bars } from "../chart.js";
import { fill, h } from "../dom.js";
import { filterForm, list } from "../list.js";
import {
	action,
	ago,
	ask,
	copy,
	count,
	duration,
	facts,
	field,
	form,
	fromLocalInput,
	hoursAgo,
	input,
	link,
	mono,
	numbers,
	say,
	section,
	select,
	share,
	show,
	state,
	tell,
	toLocalInput,
	when,
} from "../parts.js";
import { go, href, parse } from "../route.js";
import { deliveryList } from "./deliveries.js";
import { customHeaders, endpointFields, secretActions } from "./endpoint-form.js";
import { endpointHref, fresh, head, messageHref, way } from "./shared.js";
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
				[it.uid ?? it.url, " ", stateOf(it)],
				way(context, params.app),
				actions(context, base, it, started, () => header.dispatchEvent(new Event("refresh"))),
			),
			h("p", mono(it.url), it.description && ` · ${it.description}`),
			trouble(it),
		];
	}, 5);
	const draw = /** @type {Record<string, () => import("../dom.js").Children>} */ ({
		delivery: () => h("section", deliveryList(context, params.endpoint)),
		attempt: () => h("section", attempts(context, base)),
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

function stateOf({ disabled, failingSince }) {
	return state(disabled ? "disabled" : failingSince ? "failing" : "enabled");
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
	const turn = async (disabled) => {
		await api.patch(base, { disabled });
		say(disabled ? `${name} is disabled` : `${name} is enabled`);
		redraw();
	};
	const disable = () =>
		ask(
			{ title: `Disable ${name}?`, button: "Disable", kind: "danger", run: () => turn(true) },
			h(
				"p",
				"Nothing is sent to it until it is enabled, and messages that come meanwhile are not queued for it.",
			),
		);
	const off = reason ?? (it.disabled ? "It is disabled. Enable it first." : null);
	return [
		it.disabled
			? action("Enable", () => turn(false), { reason, kind: "main" })
			: action("Disable", disable, { reason }),
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
	const { api, params, signal } = context;
	const next = newest(signal);
	const name = it.uid ?? it.url;
	const times = period(it, async (after, before, text) => {
		const mine = next();
		text.textContent = "Counting…";
		const ids = async (status) => {
			const query = { status, after, before, with_content: false };
			const { data, done } = await api.all(path`app/${params.app}/attempt/endpoint/${it.id}`, {
				signal: mine,
				query,
			});
			return { ids: new Set(data.map((row) => row.msgId)), done };
		};
		try {
			const [failed, delivered] = await Promise.all([ids(2), ids(0)]);
			const open = [...failed.ids].filter((id) => !delivered.ids.has(id)).length;
			text.textContent = failed.done
				? `${count(open)} ${open === 1 ? "message gets" : "messages get"} one try more, now.`
				: `More than ${count(open)} messages get one try more, now.`;
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

/** @param {Context} context @param {string} base */
function attempts({ api, signal, keep, params: { app, endpoint } }, base) {
	keep();
	const { node, reload } = list({
		caption: "Attempts, newest first",
		noun: "attempts",
		signal,
		refresh: true,
		key: (row) => row.id,
		load: (page, signal) =>
			api.get(path`app/${app}/attempt/endpoint/${endpoint}`, {
				signal,
				query: { ...Object.fromEntries(parse().query), ...page },
			}),
		columns: [
			["Time", (row) => when(row.timestamp)],
			[
				"Message",
				(row) => link(row.msgId, messageHref(app, row.msgId, { attempt: row.id }), { class: "mono" }),
			],
			["State", (row) => state(attemptState(row))],
			["Answer", (row) => answered(row), "wide"],
			["Trigger", (row) => row.triggerType === 1 ? "by hand" : "schedule"],
			[
				"Details",
				(row) =>
					action("Details", async () =>
						show(
							"Attempt",
							unfolded({ ...row, ...await api.get(path`app/${app}/msg/${row.msgId}/attempt/${row.id}`) }, ""),
						), { about: row.id }),
				"actions",
			],
		],
		empty: () =>
			h(
				"p",
				"No attempt. They appear as messages are sent to ",
				h("span", { class: "mono" }, base),
				".",
			),
	});
	return [
		filterForm(
			[
				{ name: "status", label: "State", options: [["0", "delivered"], ["2", "failed"]] },
				{
					name: "status_code_class",
					label: "Answer",
					options: [["200", "2xx"], ["300", "3xx"], ["400", "4xx"], ["500", "5xx"], ["0", "no answer"]],
				},
				{ name: "event_types", label: "Event types" },
				{ name: "after", label: "After", instant: true },
				{ name: "before", label: "Before", instant: true },
			],
			signal,
			reload,
		),
		node,
	];
}

function settings(context, base) {
	const { api, signal, may, params } = context;
	const place = h("div");
	api.get(base, { signal }).then((it) => {
		const fields = endpointFields(it);
		const reason = may("administer");
		const name = it.uid ?? it.url;
		const remove = () =>
			ask(
				{
					title: `Delete ${name}?`,
					button: "Delete endpoint",
					kind: "danger",
					typed: it.uid ?? it.id,
					run: async () => {
						await api.delete(base);
						say(`${name} is deleted`);
						go(href(["app", params.app]));
					},
				},
				h("p", "What waits for it is not sent any more. Its attempts stay until their retention ends."),
			);
		fill(
			place,
			h(
				"div",
				{ class: "columns" },
				section(
					"Settings",
					form({
						button: "Save",
						reason,
						run: async () => {
							await api.patch(base, fields.read());
							say("Saved");
						},
					}, fields.node),
				),
				h(
					"div",
					section("Signing secret", h("div", { class: "buttons" }, secretActions(context, base, name))),
					section("Custom headers", customHeaders(context, base)),
					section(
						"About",
						facts(["Id", [mono(it.id), " ", copy(it.id, "Id")]], ["Created", when(it.createdAt)], [
							"Changed",
							when(it.updatedAt),
						]),
						h("div", { class: "buttons" }, action("Delete", remove, { kind: "danger", reason })),
					),
				),
			),
		);
	}, tell);
	return place;
}
