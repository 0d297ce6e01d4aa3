/** Operational webhooks: where Postrider tells you of its own events. */

import { path } from "../api.js";
import { h, p } from "../dom.js";
import { load } from "../list.js";
import { ask, hint, link, note, when } from "../parts.js";
import { go, href } from "../route.js";
import { endpointFields, endpointSettings, secretSection } from "./endpoint-form.js";
import { endpointCell, endpointState, head, listScreen, turn } from "./shared.js";

const BASE = "operational-webhook/endpoint";
const EVENTS =
	"endpoint.created, endpoint.updated, endpoint.disabled, endpoint.deleted, message.attempt.failing, message.attempt.exhausted, message.attempt.recovered";

/** @type {View} */
export function operationalList(context) {
	const { api, act } = context;
	const begin = () => {
		const { nodes, read } = endpointFields(context, {}, "operational");
		const run = async () => go(href(["operational", (await api.post(BASE, read())).id], { new: 1 }));
		const title = "Add an endpoint of operational webhooks";
		ask({ title, button: "Add endpoint", run }, hint(`Events: ${EVENTS}`), nodes);
	};
	const add = () => act("manage", "Add endpoint", begin, { kind: "main" });
	return listScreen(context, {
		title: "Operational webhooks",
		actions: add(),
		caption: "Endpoints of operational webhooks",
		noun: "endpoints",
		from: BASE,
		columns: [
			["Endpoint", (row) => endpointCell(row, href(["operational", row.id]))],
			["State", endpointState],
			["Events", (row) => row.eventTypes?.join(", ") ?? "all", "wide"],
		],
		empty: () => [
			h("p", "None yet. One is told when an endpoint of a customer begins to fail, is disabled, or misses a message."),
			add(),
		],
	});
}

/** @type {View} */
export function operational(context) {
	const { api, get, signal, params, query, nameOf, redraw } = context;
	const base = BASE + path`/${params.endpoint}`;
	return load(signal, () => get(base), (it) => {
		// The API has no PATCH here: what is not written would be lost.
		const write = async (body) => {
			await api.put(base, { disabled: it.disabled, metadata: it.metadata, ...body });
			redraw();
		};
		return [
			head(
				[nameOf(it), " ", endpointState(it)],
				[link("Operational webhooks", href(["operational"]))],
				turn(context, "manage", it, (body) => write({ ...it, ...body })),
			),
			it.failingSince && note(p`It has failed since ${when(it.failingSince)}.`),
			secretSection(context, base, query.has("new")),
			endpointSettings(context, base, it, write, href(["operational"]), "operational"),
		];
	});
}
