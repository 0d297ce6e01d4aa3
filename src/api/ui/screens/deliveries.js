/**
 * Deliveries of an application: a message at an endpoint, with filters.
 *
 * @module
 */

import { path } from "../api.js";
import { lastAnswer, nextTry } from "../attempts.js";
import { h } from "../dom.js";
import { filterForm, list } from "../list.js";
import { action, link, state, when } from "../parts.js";
import { href, parse } from "../route.js";
import { endpointHref, head, messageHref, sendAgain, way } from "./shared.js";

/** @typedef {import("../console.js").Context} Context */

/** @param {Context} context */
export function deliveries(context) {
	context.title("Deliveries");
	return h(
		"div",
		head("Deliveries", way(context, context.params.app)),
		h("section", deliveryList(context)),
	);
}

/**
 * The list with its filters, which are the query of the address.
 *
 * @param {Context} context
 * @param {string} [endpoint] shows those of one endpoint
 */
export function deliveryList(context, endpoint) {
	const { api, signal, keep, params: { app } } = context;
	keep();
	const { node, reload } = list({
		caption: "Deliveries, newest first",
		noun: "deliveries",
		signal,
		refresh: true,
		key: (row) => `${row.msgId} ${row.endpointId}`,
		load: (page, signal) =>
			api.get(path`app/${app}/delivery`, {
				signal,
				query: {
					...Object.fromEntries(parse().query),
					endpoint_id: endpoint ?? parse().query.get("endpoint_id"),
					...page,
				},
			}),
		columns: [
			[
				"Message",
				(row) =>
					link(row.eventId ?? row.msgId, messageHref(app, row.msgId), { class: row.eventId ? "" : "mono" }),
			],
			["Event type", (row) => row.eventType],
			...(endpoint ? [] : [
				/** @type {import("../list.js").Column} */ ([
					"Endpoint",
					(row) => link(row.endpointUid ?? row.endpointId, endpointHref(app, row.endpointId)),
				]),
			]),
			["State", (row) => state(row.state)],
			["Tries", (row) => row.attempts, "number"],
			["Last answer", (row) => lastAnswer(row), "wide"],
			["Next try", (row) => nextTry(row.nextAttemptAt)],
			["Accepted", (row) => when(row.createdAt)],
			[
				"Action",
				(row) =>
					action(
						"Send again",
						() => sendAgain(context, app, { ...row, name: row.endpointUid ?? row.endpointId }, reload),
						{
							reason: context.may("operate"),
							about: `${row.eventId ?? row.msgId} to ${row.endpointUid ?? row.endpointId}`,
						},
					),
				"actions",
			],
		],
		empty: () =>
			[...parse().query.keys()].some((name) => name !== "endpoint_id")
				? h("p", "No delivery passes these filters.")
				: h(
					"p",
					"No delivery yet. One appears here as soon as a message is accepted that an endpoint wants: ",
					link("Send a message", href(["send"], { app })),
					".",
				),
	});
	const filters = filterForm(
		[
			{ name: "state", label: "State", options: ["waiting", "sending", "delivered", "failed"] },
			...(endpoint ? [] : [{ name: "endpoint_id", label: "Endpoint (id or uid)" }]),
			{ name: "event_type", label: "Event type" },
			{ name: "tag", label: "Tag" },
			{ name: "after", label: "After", instant: true },
			{ name: "before", label: "Before", instant: true },
		],
		signal,
		reload,
	);
	return [filters, node];
}
