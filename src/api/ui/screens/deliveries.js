/** Deliveries: a message at an endpoint, with filters. */

import { lastAnswer } from "../attempts.js";
import { h, p } from "../dom.js";
import { filteredList, PERIOD } from "../list.js";
import { ago, link, state, when } from "../parts.js";
import { href, parse } from "../route.js";
import { head, nameOf, noneMatches, permitted, sendAgain, way } from "./shared.js";

/** @param {Context} context */
export function deliveries(context) {
	return h("div", head("Deliveries", way(context, "", "")), h("section", deliveryList(context)));
}

/** The list with its filters. @param {Context} context @param {string} [endpoint] shows those of one endpoint */
export function deliveryList(context, endpoint) {
	const { app, appId, portal, to } = context;
	/** @type {Column} */
	const where = ["Endpoint", (row) => link(nameOf(context, row), to.endpoint(row.endpointId))];
	const again = (row) =>
		permitted(context, "operate", "Send again", () => sendAgain(context, row, reload), {
			about: `${row.eventId ?? row.msgId} to ${nameOf(context, row)}`,
		});
	/** @type {Column[]} */
	const columns = [
		["Message", (row) => link(row.eventId ?? row.msgId, to.message(row.msgId), { class: row.eventId ? null : "mono" })],
		["Event type", (row) => row.eventType],
		...(endpoint ? [] : [where]),
		["State", (row) => state(row.state)],
		["Tries", (row) => row.attempts, "number"],
		["Last answer", lastAnswer, "wide"],
		["Next try", (row) => ago(row.nextAttemptAt)],
		["Accepted", (row) => when(row.createdAt)],
		["Action", again, "actions"],
	];
	const { nodes, reload } = filteredList(context, {
		caption: "Deliveries, newest first",
		noun: "deliveries",
		refresh: 2,
		key: (row) => `${row.msgId} ${row.endpointId}`,
		from: `${app}/delivery${endpoint ? `?endpoint_id=${encodeURIComponent(endpoint)}` : ""}`,
		filters: [
			{ name: "state", label: "State", options: ["waiting", "sending", "delivered", "failed"] },
			...(endpoint ? [] : [{ name: "endpoint_id", label: "Endpoint (id or uid)" }]),
			{ name: "event_type", label: "Event type" },
			{ name: "tag", label: "Tag" },
			...PERIOD,
		],
		columns: portal && context.may("operate") ? columns.slice(0, -1) : columns,
		empty: () =>
			parse().query.size
				? noneMatches("delivery")
				: p`No delivery yet. One appears here as soon as there is a message that this endpoint wants: ${
					portal && endpoint
						? link("Test and secret", to.endpoint(endpoint, "setup"))
						: link("Send a message", href(["send"], { app: appId }))
				}.`,
	});
	return nodes;
}
