/** Applications: the customers. The list with counts, and the page of each with its endpoints. */

import { path } from "../api.js";
import { bars } from "../chart.js";
import { h, p } from "../dom.js";
import { load, noneOf } from "../list.js";
import {
	action,
	ask,
	columns,
	copy,
	fieldsOf,
	goes,
	link,
	mono,
	muted,
	say,
	section,
	share,
	show,
	when,
} from "../parts.js";
import { go, href } from "../route.js";
import { addEndpoint } from "./endpoint-form.js";
import { addPoller, pollerList } from "./polling.js";
import { about, appHref, counts, endpointHref, endpointList, head, joined, listScreen, remember } from "./shared.js";

/** @type {View} */
export function applications(context) {
	const { api, act } = context;
	const load = async (page, signal) => {
		// Both lists are in the order of the ids, so that a page of one belongs to the same page of the other.
		const [apps, { data }] = await Promise.all([
			api.get("app", { signal, query: { order: "ascending", ...page } }),
			api.get("stats/delivery", { signal, query: { by: "application", ...page } }),
		]);
		return { ...apps, data: joined(apps.data, data) };
	};
	return listScreen(context, {
		title: "Applications",
		actions: act("administer", "Add application", () => edit(context), { kind: "main" }),
		caption: "Applications",
		noun: "applications",
		from: "app",
		load,
		texts: ["id", "uid", "name"],
		filters: [["q", "Name, uid or id contains"]],
		columns: [
			["Name", (row) => link(row.name, appHref(row.id))],
			["Uid", (row) => mono(row.uid)],
			...counts,
			["Created", (row) => when(row.createdAt)],
		],
		empty: () =>
			noneOf(
				"application",
				p`No application yet. Make one for each customer: ${link("first steps", href(["start"]))}.`,
			),
	});
}

function edit({ api }, app = /** @type {any} */ (null), then = (made) => go(appHref(made.id))) {
	const fields = fieldsOf(
		app,
		["name", "Name", "", { required: true }],
		["uid", "Uid", "Your own id of this customer: it works wherever the id does."],
		["throttleRate", "Rate, in deliveries a second", "For all its endpoints together. Empty: no limit.", {
			type: "number",
			min: 1,
		}],
	);
	const run = async () => {
		const body = fields.read();
		const made = remember(await (app ? api.patch(path`app/${app.id}`, body) : api.post("app", body)));
		say("Saved");
		then(made);
	};
	const [title, button] = app ? ["Change the application", "Save"] : ["Add an application", "Add application"];
	ask({ title, button, run }, fields.nodes);
}

/** @type {View} */
export function application(context) {
	const { get, app, signal } = context;
	return load(signal, () => get(app), (it) => page(context, remember(it)));
}

function page(context, app) {
	const { api, get, signal, act, redraw } = context;
	const base = path`app/${app.id}`;
	const remove = {
		title: `Delete ${app.name}?`,
		text: "Its endpoints are deleted, what waits for them is not sent any more, and its portal links end.",
		typed: app.uid ?? app.id,
		run: () => api.delete(base),
		done: `${app.name} is deleted`,
		then: () => go(href(["app"])),
	};
	const add = () => act("manage", "Add endpoint", () => addEndpoint(context, app.id), { kind: "main" });
	const figures = load(
		signal,
		() => get("stats/delivery", { by: "application", app_id: app.id }),
		({ data: [{ delivered, failed, buckets }] }) =>
			delivered + failed
				? bars(buckets, { title: `Attempts by hour, 24 h: ${share(delivered, failed)} succeeded` })
				: muted("No attempt in the last 24 h."),
	);
	const metadata = Object.entries(app.metadata).map((pair) => h("div.mono", pair.join(": ")));
	const none = () => [h("p", "No endpoint yet: no message of this application is sent anywhere."), add()];
	return [
		head(
			app.name,
			[link("Applications", href(["app"]))],
			goes("Deliveries", href(["app", app.id, "delivery"])),
			goes("Send a message", href(["send"], { app: app.id })),
			action("Open the portal", () => openPortal(api, app)),
			act("administer", "Change", () => edit(context, app, redraw)),
			act("administer", "Delete", remove, { kind: "danger" }),
			add(),
		),
		section("Endpoints", endpointList(context, app.id, (id) => endpointHref(app.id, id), none)),
		section("Pollers", pollerList(context), addPoller(context)),
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

async function openPortal(api, app) {
	const { url } = await api.post(path`auth/app-portal-access/${app.id}`, { readOnly: true, expiry: 3600 });
	show(
		`The portal of ${app.name}`,
		p`For your own eyes: it only reads, and ends after an hour. A link for the customer: ${
			mono(`app portal ${app.uid ?? app.id}`)
		}`,
		h("p", link("Open the portal in a new tab", url, { target: "_blank", rel: "noopener noreferrer" })),
		copy(url, "Link"),
	);
}
