/**
 * Operational webhooks: where Postrider tells you of its own events.
 *
 * @module
 */

import { path } from "../api.js";
import { h } from "../dom.js";
import { action, ask, link, load, say, when } from "../parts.js";
import { go, href } from "../route.js";
import { endpointFields, endpointSettings, showSecret } from "./endpoint-form.js";
import { endpointCell, endpointState, head, listScreen } from "./shared.js";

/** @typedef {import("../console.js").Context} Context */

const BASE = "operational-webhook/endpoint";
const EVENTS =
	"endpoint.created, endpoint.updated, endpoint.disabled, endpoint.deleted, message.attempt.failing, message.attempt.exhausted, message.attempt.recovered";

/** @param {Context} context */
export function operationalList(context) {
	const { api, may } = context;
	const begin = () => {
		const fields = endpointFields({}, { operational: true });
		const run = async () => {
			const made = await api.post(BASE, fields.read());
			const { key } = await api.get(path`operational-webhook/endpoint/${made.id}/secret`);
			go(href(["operational", made.id]));
			setTimeout(() => showSecret("The endpoint is added", key));
		};
		return ask(
			{ title: "Add an endpoint of operational webhooks", button: "Add endpoint", run },
			h("p", { class: "hint" }, `Events: ${EVENTS}`),
			fields.node,
		);
	};
	const add = () => action("Add endpoint", begin, { kind: "main", reason: may("administer") });
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
			h(
				"p",
				"None yet. An endpoint here is told when an endpoint of a customer begins to fail, is disabled, or misses a message for good: ",
			),
			h("p", { class: "mono" }, EVENTS),
			add(),
		],
	}).node;
}

/** @param {Context} context */
export function operational(context) {
	const { api, signal, params, title, may } = context;
	const base = path`operational-webhook/endpoint/${params.endpoint}`;
	const reason = may("administer");
	const place = h("div");
	const draw = () =>
		load(place, signal, () => api.get(base, { signal }), (it) => {
			const name = it.uid ?? it.url;
			title(name);
			// The API has no PATCH here: what is not written would be lost.
			const write = (body) => api.put(base, { ...body, metadata: it.metadata });
			const turn = async (disabled) => {
				await write({ ...it, disabled });
				say(`${name} is ${disabled ? "disabled" : "enabled"}`);
				draw();
			};
			return [
				head(
					[name, " ", endpointState(it)],
					[link("Operational webhooks", href(["operational"]))],
					it.disabled
						? action("Enable", () => turn(false), { reason, kind: "main" })
						: action("Disable", () => turn(true), { reason }),
				),
				it.failingSince && h("p", { class: "note" }, "It has failed since ", when(it.failingSince), "."),
				endpointSettings(context, base, it, {
					operational: true,
					write: (body) => write({ ...body, disabled: it.disabled }),
					gone: href(["operational"]),
				}),
			];
		});
	draw();
	return place;
}
