/**
 * Applications: the customers. The list with counts, and the page of each with its endpoints.
 *
 * @module
 */

import { path } from "../api.js";
import { bars } from "../chart.js";
import { h } from "../dom.js";
import { list } from "../list.js";
import {
	action,
	ask,
	copy,
	count,
	duration,
	facts,
	field,
	input,
	link,
	load,
	mono,
	say,
	section,
	share,
	show,
	when,
} from "../parts.js";
import { go, href, parse } from "../route.js";
import { endpointFields, showSecret } from "./endpoint-form.js";
import {
	appHref,
	asking,
	endpointCell,
	endpointHref,
	endpointState,
	head,
	listScreen,
	remember,
} from "./shared.js";

/** @typedef {import("../console.js").Context} Context */

/** The columns of attempts of 24 h. @returns {import("../list.js").Column[]} */
const counts = () => [
	[
		"Attempts, 24 h",
		(row) =>
			row.series
				? bars(row.series.buckets, { title: "Attempts by hour, 24 h", step: 3600, table: false })
				: "–",
	],
	["Delivered, 24 h", (row) => row.series ? count(row.series.delivered) : "–", "number"],
	["Failed, 24 h", (row) => row.series ? count(row.series.failed) : "–", "number"],
	["Succeeded, 24 h", (row) => row.series ? share(row.series.delivered, row.series.failed) : "–", "number"],
];

/** How many applications a search by name looks through, and how many of the found get figures. */
const LOOKED_THROUGH = 1000, WITH_FIGURES = 10;

/** @param {Context} context */
export function applications(context) {
	const { api, may } = context;
	/** @param {{iterator?: string | null, limit: number}} page @param {AbortSignal} signal */
	const load = async (page, signal) => {
		const q = (parse().query.get("q") ?? "").toLowerCase();
		looked.hidden = true;
		if (q) return await search(q, signal);
		// Both lists are in the order of the ids, so that a page of one belongs to the same page of the other.
		const [apps, stats] = await Promise.all([
			api.get("app", { signal, query: { order: "ascending", ...page } }),
			api.get("stats/delivery", { signal, query: { by: "application", ...page } }),
		]);
		return { ...apps, data: joined(apps.data, stats.data) };
	};
	/** @param {string} q @param {AbortSignal} signal */
	const search = async (q, signal) => {
		const { data, done } = await api.all("app", { signal, most: LOOKED_THROUGH });
		looked.hidden = done;
		const found = data.filter((app) =>
			[app.id, app.uid ?? "", app.name].some((text) => text.toLowerCase().includes(q))
		);
		const stats = await Promise.all(
			found.slice(0, WITH_FIGURES).map((app) =>
				api.get("stats/delivery", { signal, query: { by: "application", app_id: app.id } })
			),
		);
		return { data: joined(found, stats.flatMap((one) => one.data)), iterator: null, done: true };
	};
	const looked = h(
		"p",
		{ class: "note", hidden: true },
		`Only the newest ${
			count(LOOKED_THROUGH)
		} applications were looked through. Find, above, knows all of them by id and uid.`,
	);
	return listScreen(context, {
		title: "Applications",
		actions: action("Add application", () => edit(context), { kind: "main", reason: may("administer") }),
		note: looked,
		caption: "Applications",
		noun: "applications",
		load,
		filters: [{ name: "q", label: "Name, uid or id contains" }],
		columns: [
			["Name", (row) => link(row.name, appHref(row.id))],
			["Uid", (row) => mono(row.uid)],
			...counts(),
			["Created", (row) => when(row.createdAt)],
		],
		empty: () =>
			parse().query.get("q") ? h("p", "No application has that in its name, uid or id.") : h(
				"p",
				"No application yet. Make one for each customer: ",
				link("first steps", href(["start"])),
				".",
			),
	}).node;
}

function joined(rows, series) {
	const byId = new Map(series.map((one) => [one.endpointId ?? one.appId, one]));
	return rows.map((row) => ({ ...row, series: byId.get(row.id) }));
}

/** Makes an application, or changes one. */
function edit({ api }, app, then) {
	const name = input({ required: true, value: app?.name ?? "" }), uid = input({ value: app?.uid ?? "" });
	const rate = input({ type: "number", min: 1, value: app?.throttleRate ?? app?.rateLimit ?? "" });
	const run = async () => {
		const body = {
			name: name.value.trim(),
			uid: uid.value.trim() || null,
			throttleRate: rate.value ? Number(rate.value) : null,
		};
		const made = remember(app ? await api.patch(path`app/${app.id}`, body) : await api.post("app", body));
		say("Saved");
		if (app) then?.();
		else go(appHref(made.id));
	};
	return ask(
		{
			title: app ? "Change the application" : "Add an application",
			button: app ? "Save" : "Add application",
			run,
		},
		field("Name", name),
		field("Uid", uid, "Your own id of this customer: it works wherever the id does."),
		field("Rate, in deliveries a second", rate, "For all its endpoints together. Empty: no limit."),
	);
}

/** @param {Context} context */
export function application(context) {
	const { api, signal, params, title, query } = context;
	const base = path`app/${params.app}`;
	title("Application");
	const place = h("div");
	load(place, signal, () => api.get(base, { signal }), (app) => {
		title(remember(app).name);
		if (query.get("add")) addEndpoint(context, app);
		return page(context, base, app);
	});
	return place;
}

function page(context, base, app) {
	const { api, signal, may } = context;
	const admin = may("administer");
	const again = () => dispatchEvent(new HashChangeEvent("hashchange"));
	const remove = asking("Delete", {
		title: `Delete ${app.name}?`,
		text: "Its endpoints are deleted, what waits for them is not sent any more, and its portal links end.",
		typed: app.uid ?? app.id,
		run: () => api.delete(base),
		done: `${app.name} is deleted`,
		then: () => go(href(["app"])),
		reason: admin,
		kind: "danger",
	});
	const figures = h("div");
	load(
		figures,
		signal,
		() => api.get("stats/delivery", { signal, query: { by: "application", app_id: app.id } }),
		({ data: [series], stepSeconds }) =>
			series.delivered + series.failed
				? bars(series.buckets, {
					title: `Attempts by hour, 24 h: ${share(series.delivered, series.failed)} succeeded`,
					step: stepSeconds,
				})
				: h("p", { class: "muted" }, "No attempt in the last 24 h."),
	);
	const { node } = list({
		caption: "Endpoints",
		noun: "endpoints",
		signal,
		key: (row) => row.id,
		load: async (page, signal) => {
			const endpoints = await api.get(`${base}/endpoint`, { signal, query: page });
			const ids = endpoints.data.map((row) => row.id).join(",");
			const stats = ids
				? await api.get("stats/delivery", {
					signal,
					query: { by: "endpoint", app_id: app.id, endpoint_id: ids },
				})
				: { data: [] };
			return { ...endpoints, data: joined(endpoints.data, stats.data) };
		},
		columns: [
			["Endpoint", (row) => endpointCell(row, endpointHref(app.id, row.id))],
			["State", endpointState],
			["Event types", (row) => row.eventTypes?.join(", ") ?? "all", "wide"],
			...counts(),
		],
		empty: () => [
			h("p", "No endpoint yet: no message of this application is sent anywhere."),
			action("Add endpoint", () => addEndpoint(context, app), { kind: "main", reason: admin }),
		],
	});
	return [
		head(
			app.name,
			[link("Applications", href(["app"]))],
			link("Deliveries", href(["app", app.id, "delivery"]), { class: "button" }),
			link("Send a message", href(["send"], { app: app.id }), { class: "button" }),
			action("Open the portal", () => portal(context, app)),
			action("Change", () => edit(context, app, again), { reason: admin }),
			remove,
			action("Add endpoint", () => addEndpoint(context, app), { reason: admin, kind: "main" }),
		),
		section("Endpoints", node),
		h(
			"div",
			{ class: "columns" },
			section("Attempts", figures),
			section(
				"About",
				facts(
					["Id", [mono(app.id), " ", copy(app.id, "Id")]],
					["Uid", mono(app.uid)],
					["Rate", app.throttleRate ? `${app.throttleRate} deliveries a second` : "no limit"],
					[
						"Metadata",
						Object.entries(app.metadata).map(([name, value]) =>
							h("div", { class: "mono" }, `${name}: ${value}`)
						),
					],
					["Created", when(app.createdAt)],
					["Changed", when(app.updatedAt)],
				),
			),
		),
	];
}

/** Adds an endpoint, and shows its secret at once. @param {Context} context @param {any} app @param {string} [url] @param {(endpoint: any) => void} [then] */
export async function addEndpoint({ api }, app, url, then) {
	const fields = endpointFields({ url });
	/** @type {any} */
	let made;
	const run = async () => {
		made = await api.post(path`app/${app.id}/endpoint`, fields.read());
	};
	if (!await ask({ title: `Add an endpoint to ${app.name}`, button: "Add endpoint", run }, fields.node)) {
		return;
	}
	if (then) return then(made);
	const { key } = await api.get(path`app/${app.id}/endpoint/${made.id}/secret`);
	go(endpointHref(app.id, made.id));
	setTimeout(() =>
		showSecret(
			"The endpoint is added",
			key,
			"This is its signing secret. The receiver checks the header webhook-signature with it.",
		)
	);
}

async function portal({ api }, app) {
	const { url } = await api.post(path`auth/app-portal-access/${app.id}`, { readOnly: true, expiry: 3600 });
	show(
		"The portal of " + app.name,
		h("p", `As this customer sees it, read only, for ${duration(3_600_000)}.`),
		h("p", link("Open the portal in a new tab", url, { target: "_blank", rel: "noopener noreferrer" })),
		copy(url, "Link"),
	);
}
