/** Deliveries: a message at an endpoint, with filters. */

import { lastAnswer } from "../attempts.js";
import { h, p } from "../dom.js";
import { list, noneOf, PERIOD } from "../list.js";
import { ago, link, state, when } from "../parts.js";
import { href } from "../route.js";
import { head, sendAgain, way } from "./shared.js";

/** @type {View} */
export function deliveries(context) {
	return h("div", head("Deliveries", way(context, "", "")), h("section", deliveryList(context)));
}

/** The list with its filters; of one endpoint, if one is given. @param {Context} context */
export function deliveryList(context, endpoint = "") {
	const { app, appId, portal, to, act, nameOf, may } = context;
	const again = (row) =>
		act("operate", "Send again", () => sendAgain(context, row, reload), {
			about: `${row.eventId ?? row.msgId} to ${nameOf(row)}`,
		});
	const source = portal && endpoint
		? link("Test and secret", to.endpoint(endpoint, "setup"))
		: link("Send a message", href(["send"], { app: appId }));
	const { nodes, reload } = list(context, {
		caption: "Deliveries, newest first",
		noun: "deliveries",
		refresh: 2,
		key: (row) => `${row.msgId} ${row.endpointId}`,
		from: `${app}/delivery${endpoint ? `?endpoint_id=${encodeURIComponent(endpoint)}` : ""}`,
		filters: [
			["state", "State", ["waiting", "sending", "delivered", "failed"]],
			!endpoint && ["endpoint_id", "Endpoint (id or uid)"],
			["event_type", "Event type"],
			["tag", "Tag"],
			...PERIOD,
		],
		columns: [
			["Message", (row) => link(row.eventId ?? row.msgId, to.message(row.msgId), { class: !row.eventId && "mono" })],
			["Event type", (row) => row.eventType],
			!endpoint && ["Endpoint", (row) => link(nameOf(row), to.endpoint(row.endpointId))],
			["State", (row) => state(row.state)],
			["Tries", (row) => row.attempts, "number"],
			["Last answer", lastAnswer, "wide"],
			["Next try", (row) => ago(row.nextAttemptAt)],
			["Accepted", (row) => when(row.createdAt)],
			!(portal && may("operate")) && ["Action", again, "actions"],
		],
		empty: () =>
			noneOf(
				"delivery",
				p`No delivery yet. One appears here as soon as there is a message that this endpoint wants: ${source}.`,
			),
	});
	return nodes;
}
