/** Operational webhooks: where Postrider tells you of its own events. */

import { h, p } from "../dom.js";
import { ask, link, load, note, say, when } from "../parts.js";
import { go, href } from "../route.js";
import { endpointFields, endpointSettings } from "./endpoint-form.js";
import { endpointCell, endpointState, head, listScreen, nameOf, permitted } from "./shared.js";

const BASE = "operational-webhook/endpoint";
const EVENTS =
	"endpoint.created, endpoint.updated, endpoint.disabled, endpoint.deleted, message.attempt.failing, message.attempt.exhausted, message.attempt.recovered";

/** @param {Context} context */
export function operationalList(context) {
	const begin = () => {
		const fields = endpointFields(context, {}, { operational: true });
		const run = async () => {
			const { id } = await context.api.post(BASE, fields.read());
			go(href(["operational", id], { new: 1 }));
		};
		const title = "Add an endpoint of operational webhooks";
		ask({ title, button: "Add endpoint", run }, h("p.hint", `Events: ${EVENTS}`), fields.node);
	};
	const add = () => permitted(context, "manage", "Add endpoint", begin, { kind: "main" });
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
			h("p", "None yet. One is told when an endpoint of a customer begins to fail, is disabled, or misses a message:"),
			h("p.mono", EVENTS),
			add(),
		],
	}).node;
}

/** @param {Context} context */
export function operational(context) {
	const { api, get, signal, params } = context;
	const base = `${BASE}/${encodeURIComponent(params.endpoint)}`;
	return load(signal, () => get(base), (it, again) => {
		const name = nameOf(context, it);
		// The API has no PATCH here: what is not written would be lost.
		const write = async (body) => {
			await api.put(base, { ...body, metadata: it.metadata });
			await again();
		};
		const turn = async (disabled) => {
			await write({ ...it, disabled });
			say(`${name} is ${disabled ? "disabled" : "enabled"}`);
		};
		return [
			head(
				[name, " ", endpointState(it)],
				[link("Operational webhooks", href(["operational"]))],
				it.disabled
					? permitted(context, "manage", "Enable", () => turn(false), { kind: "main" })
					: permitted(context, "manage", "Disable", () => turn(true)),
			),
			it.failingSince && note(p`It has failed since ${when(it.failingSince)}.`),
			endpointSettings(context, base, it, {
				operational: true,
				write: (body) => write({ ...body, disabled: it.disabled }),
				gone: href(["operational"]),
			}),
		];
	});
}
