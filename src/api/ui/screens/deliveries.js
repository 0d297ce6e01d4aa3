/**
 * Deliveries of an application: a message at an endpoint, with filters.
 *
 * @module
 */

import { path } from "../api.js";
import { lastAnswer, nextTry } from "../attempts.js";
import { h } from "../dom.js";
import { action, link, state, when } from "../parts.js";
import { href, parse } from "../route.js";
import { endpointHref, filteredList, head, messageHref, PERIOD, sendAgain, way } from "./shared.js";

/** @typedef {import("../console.js").Context} Context */

/** @param {Context} context */
export function deliveries(context) {
	context.title("Deliveries");
	return h("div", head("Deliveries", way(context, context.params.app)), h("section", deliveryList(context)));
}

/** The list with its filters. @param {Context} context @param {string} [endpoint] shows those of one endpoint */
export function deliveryList(context, endpoint) {
	const { params: { app } } = context;
	const name = (row) => row.endpointUid ?? row.endpointId;
	/** @type {import("../list.js").Column} */
	const where = ["Endpoint", (row) => link(name(row), endpointHref(app, row.endpointId))];
	const { nodes, reload } = filteredList(context, {
		caption: "Deliveries, newest first",
		noun: "deliveries",
		refresh: true,
		key: (row) => `${row.msgId} ${row.endpointId}`,
		from: path`app/${app}/delivery` + (endpoint ? `?${new URLSearchParams({ endpoint_id: endpoint })}` : ""),
		filters: [
			{ name: "state", label: "State", options: ["waiting", "sending", "delivered", "failed"] },
			...(endpoint ? [] : [{ name: "endpoint_id", label: "Endpoint (id or uid)" }]),
			{ name: "event_type", label: "Event type" },
			{ name: "tag", label: "Tag" },
			...PERIOD,
		],
		columns: [
			[
				"Message",
				(row) =>
					link(row.eventId ?? row.msgId, messageHref(app, row.msgId), { class: row.eventId ? "" : "mono" }),
			],
			["Event type", (row) => row.eventType],
			...(endpoint ? [] : [where]),
			["State", (row) => state(row.state)],
			["Tries", (row) => row.attempts, "number"],
			["Last answer", (row) => lastAnswer(row), "wide"],
			["Next try", (row) => nextTry(row.nextAttemptAt)],
			["Accepted", (row) => when(row.createdAt)],
			[
				"Action",
				(row) =>
					action("Send again", () => sendAgain(context, app, { ...row, name: name(row) }, reload), {
						reason: context.may("operate"),
						about: `${row.eventId ?? row.msgId} to ${name(row)}`,
					}),
				"actions",
			],
		],
		empty: () =>
			parse().query.size ? h("p", "No delivery passes these filters.") : h(
				"p",
				"No delivery yet. One appears here as soon as a message is accepted that an endpoint wants: ",
				link("Send a message", href(["send"], { app })),
				".",
			),
	});
	return nodes;
}
