/**
 * Operational webhooks: where Postrider tells you of its own events.
 *
 * @module
 */

import { path } from "../api.js";
import { h } from "../dom.js";
import { list } from "../list.js";
import { action, ask, copy, facts, form, link, load, mono, say, section, state, when } from "../parts.js";
import { go, href } from "../route.js";
import { customHeaders, endpointFields, secretActions, showSecret } from "./endpoint-form.js";
import { head } from "./shared.js";

/** @typedef {import("../console.js").Context} Context */

const BASE = "operational-webhook/endpoint";
const EVENTS =
	"endpoint.created, endpoint.updated, endpoint.disabled, endpoint.deleted, message.attempt.failing, message.attempt.exhausted, message.attempt.recovered";

/** @param {Context} context */
export function operationalList(context) {
	const { api, signal, may, title } = context;
	title("Operational webhooks");
	const { node } = list({
		caption: "Endpoints of operational webhooks",
		noun: "endpoints",
		signal,
		key: (row) => row.id,
		load: (page, signal) => api.get(BASE, { signal, query: page }),
		columns: [
			[
				"Endpoint",
				(
					row,
				) => [
					link(row.uid ?? row.id, href(["operational", row.id])),
					h("div", { class: "mono muted" }, row.url),
				],
			],
			["State", (row) => stateOf(row)],
			["Events", (row) => row.eventTypes?.join(", ") ?? "all", "wide"],
			["Description", (row) => row.description],
		],
		empty: () => [
			h(
				"p",
				"None yet. An endpoint here is told when an endpoint of a customer begins to fail, is disabled, or misses a message for good: ",
			),
			h("p", { class: "mono" }, EVENTS),
			add(),
		],
	});
	const add = () =>
		action("Add endpoint", () => {
			const fields = endpointFields({}, { operational: true });
			return ask(
				{
					title: "Add an endpoint of operational webhooks",
					button: "Add endpoint",
					run: async () => {
						const made = await api.post(BASE, fields.read());
						const { key } = await api.get(path`operational-webhook/endpoint/${made.id}/secret`);
						go(href(["operational", made.id]));
						setTimeout(() => showSecret("The endpoint is added", key));
					},
				},
				h("p", { class: "hint" }, `Events: ${EVENTS}`),
				fields.node,
			);
		}, { kind: "main", reason: may("administer") });
	return h("div", head("Operational webhooks", [], add()), h("section", node));
}

function stateOf({ disabled, failingSince }) {
	return state(disabled ? "disabled" : failingSince ? "failing" : "enabled");
}

/** @param {Context} context */
export function operational(context) {
	const { api, signal, params, title, may } = context;
	const base = path`operational-webhook/endpoint/${params.endpoint}`;
	const reason = may("administer");
	title("Operational webhook");
	const place = h("div");
	const draw = () =>
		load(place, signal, () => api.get(base, { signal }), (it) => {
			const name = it.uid ?? it.url;
			title(name);
			const fields = endpointFields(it, { operational: true });
			const save = async (disabled, done) => {
				// The API has no PATCH here: what is not written would be lost.
				await api.put(base, { ...fields.read(), metadata: it.metadata, disabled });
				say(done);
				draw();
			};
			const remove = () =>
				ask({
					title: `Delete ${name}?`,
					button: "Delete endpoint",
					kind: "danger",
					typed: it.uid ?? it.id,
					run: async () => {
						await api.delete(base);
						say(`${name} is deleted`);
						go(href(["operational"]));
					},
				});
			return [
				head(
					[name, " ", stateOf(it)],
					[link("Operational webhooks", href(["operational"]))],
					it.disabled
						? action("Enable", () => save(false, `${name} is enabled`), { reason, kind: "main" })
						: action("Disable", () =>
							ask({
								title: `Disable ${name}?`,
								button: "Disable",
								kind: "danger",
								run: () => save(true, `${name} is disabled`),
							}, h("p", "It is told nothing until it is enabled.")), { reason }),
					action("Delete", remove, { reason, kind: "danger" }),
				),
				it.failingSince && h("p", { class: "note" }, "It has failed since ", when(it.failingSince), "."),
				h(
					"div",
					{ class: "columns" },
					section(
						"Settings",
						form({
							button: "Save",
							reason,
							run: () => save(it.disabled, "Saved"),
						}, fields.node),
					),
					h(
						"div",
						section("Signing secret", h("div", { class: "buttons" }, secretActions(context, base, name))),
						section("Custom headers", customHeaders(context, base, true)),
						section(
							"About",
							facts(["Id", [mono(it.id), " ", copy(it.id, "Id")]], ["Created", when(it.createdAt)], [
								"Changed",
								when(it.updatedAt),
							]),
						),
					),
				),
			];
		});
	draw();
	return place;
}
