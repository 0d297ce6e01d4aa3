/** Applications: the customers. The list with counts, and the page of each with its endpoints. */

import { path } from "../api.js";
import { bars } from "../chart.js";
import { h, p } from "../dom.js";
import { filtered } from "../list.js";
import {
	action,
	ask,
	columns,
	confirming,
	copy,
	count,
	field,
	input,
	link,
	load,
	mono,
	muted,
	note,
	say,
	section,
	share,
	show,
	when,
} from "../parts.js";
import { go, href } from "../route.js";
import { endpointFields } from "./endpoint-form.js";
import { counts, endpointList, joined } from "./endpoints.js";
import { about, appHref, endpointHref, head, listScreen, noneMatches, permitted, remember } from "./shared.js";

/** How many applications a search by name looks through, and how many of the found get figures. */
const LOOKED_THROUGH = 1000, WITH_FIGURES = 10;

/** @param {Context} context */
export function applications(context) {
	const { api } = context;
	const stats = (signal, query) => api.get("stats/delivery", { signal, query: { by: "application", ...query } });
	const looked = note(
		`Only the newest ${count(LOOKED_THROUGH)} applications were looked through. Find, above, knows all.`,
	);
	const load = async (page, signal) => {
		const { q } = filtered();
		looked.hidden = true;
		if (q) return await search(q.toLowerCase(), signal);
		// Both lists are in the order of the ids, so that a page of one belongs to the same page of the other.
		const [apps, { data }] = await Promise.all([
			api.get("app", { signal, query: { order: "ascending", ...page } }),
			stats(signal, page),
		]);
		return { ...apps, data: joined(apps.data, data) };
	};
	const search = async (q, signal) => {
		const { data, done } = await api.all("app", { signal, most: LOOKED_THROUGH });
		looked.hidden = done;
		const found = data.filter(({ id, uid, name }) => [id, uid, name].some((text) => text?.toLowerCase().includes(q)));
		const series = await Promise.all(found.slice(0, WITH_FIGURES).map(({ id }) => stats(signal, { app_id: id })));
		return { data: joined(found, series.flatMap(({ data }) => data)), iterator: null, done: true };
	};
	return listScreen(context, {
		title: "Applications",
		actions: permitted(context, "administer", "Add application", () => edit(context), { kind: "main" }),
		note: looked,
		caption: "Applications",
		noun: "applications",
		load,
		filters: [{ name: "q", label: "Name, uid or id contains" }],
		columns: [
			["Name", (row) => link(row.name, appHref(row.id))],
			["Uid", (row) => mono(row.uid)],
			...counts,
			["Created", (row) => when(row.createdAt)],
		],
		empty: () =>
			filtered().q
				? noneMatches("application")
				: p`No application yet. Make one for each customer: ${link("first steps", href(["start"]))}.`,
	}).node;
}

/** Makes an application, or changes one. */
function edit({ api }, app, then) {
	const name = input({ required: true, value: app?.name ?? "" }), uid = input({ value: app?.uid ?? "" });
	const rate = input({ type: "number", min: 1, value: app?.throttleRate ?? "" });
	const run = async () => {
		const throttleRate = rate.value ? Number(rate.value) : null;
		const body = { name: name.value.trim(), uid: uid.value.trim() || null, throttleRate };
		const made = remember(await (app ? api.patch(path`app/${app.id}`, body) : api.post("app", body)));
		say("Saved");
		if (then) then();
		else go(appHref(made.id));
	};
	ask(
		app
			? { title: "Change the application", button: "Save", run }
			: { title: "Add an application", button: "Add application", run },
		field("Name", name),
		field("Uid", uid, "Your own id of this customer: it works wherever the id does."),
		field("Rate, in deliveries a second", rate, "For all its endpoints together. Empty: no limit."),
	);
}

/** @param {Context} context */
export function application(context) {
	const { get, app, signal, query } = context;
	return load(signal, () => get(app), (it, again, signal) => {
		remember(it);
		if (query.get("add")) addEndpoint(context, it);
		return page({ ...context, signal }, it, again);
	});
}

function page(context, app, again) {
	const { api, get, signal } = context;
	const base = path`app/${app.id}`;
	const remove = confirming("Delete", {
		title: `Delete ${app.name}?`,
		text: "Its endpoints are deleted, what waits for them is not sent any more, and its portal links end.",
		typed: app.uid ?? app.id,
		run: () => api.delete(base),
		done: `${app.name} is deleted`,
		then: () => go(href(["app"])),
	});
	const add = () => permitted(context, "manage", "Add endpoint", () => addEndpoint(context, app), { kind: "main" });
	const figures = load(
		signal,
		() => get("stats/delivery", { by: "application", app_id: app.id }),
		({ data: [{ delivered, failed, buckets }], stepSeconds }) => {
			const title = `Attempts by hour, 24 h: ${share(delivered, failed)} succeeded`;
			return delivered + failed ? bars(buckets, { title, step: stepSeconds }) : muted("No attempt in the last 24 h.");
		},
	);
	const metadata = Object.entries(app.metadata).map((pair) => h("div.mono", pair.join(": ")));
	const none = () => [h("p", "No endpoint yet: no message of this application is sent anywhere."), add()];
	return [
		head(
			app.name,
			[link("Applications", href(["app"]))],
			link("Deliveries", href(["app", app.id, "delivery"]), { class: "button" }),
			link("Send a message", href(["send"], { app: app.id }), { class: "button" }),
			action("Open the portal", () => openPortal(context, app)),
			permitted(context, "administer", "Change", () => edit(context, app, again)),
			permitted(context, "administer", "Delete", remove, { kind: "danger" }),
			add(),
		),
		section("Endpoints", endpointList(context, app.id, (id) => endpointHref(app.id, id), none)),
		columns(
			section("Attempts", figures),
			section(
				"About",
				about(
					app,
					["Uid", mono(app.uid)],
					["Rate", app.throttleRate ? `${app.throttleRate} deliveries a second` : "no limit"],
					metadata.length > 0 && ["Metadata", metadata],
				),
			),
		),
	];
}

/** Adds an endpoint, and shows its secret at once. @param {Context} context @param {any} app @param {(endpoint: any) => void} [then] */
export function addEndpoint(context, app, then = ({ id }) => go(`${endpointHref(app.id, id, "settings")}?new=1`)) {
	const fields = endpointFields(context);
	const run = async () => then(await context.api.post(path`app/${app.id}/endpoint`, fields.read()));
	ask({ title: `Add an endpoint to ${app.name}`, button: "Add endpoint", run }, fields.node);
}

async function openPortal({ api }, app) {
	const { url } = await api.post(path`auth/app-portal-access/${app.id}`, { readOnly: true, expiry: 3600 });
	show(
		`The portal of ${app.name}`,
		h("p", "As this customer sees it, read only, for an hour."),
		h("p", link("Open the portal in a new tab", url, { target: "_blank", rel: "noopener noreferrer" })),
		copy(url, "Link"),
	);
}
