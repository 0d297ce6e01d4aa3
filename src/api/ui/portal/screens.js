/** The portal's own screens: endpoints, messages and access. */

import { path } from "../api.js";
import { fill, h } from "../dom.js";
import { filtered, list, load, noneOf, PERIOD, table } from "../list.js";
import { action, ago, empty, facts, failure, findForm, idLink, link, section, state, when } from "../parts.js";
import { go, setQuery } from "../route.js";
import { addEndpoint } from "../screens/endpoint-form.js";
import { endpointList, head, limits, statesOfMessages } from "../screens/shared.js";

/** @type {View} */
export function endpoints(context) {
	const { appId, to, act } = context;
	const add = () => act("manage", "Add endpoint", () => addEndpoint(context, appId), { kind: "main" });
	const none = () => [h("p", "No endpoint yet. It is an address of your server that messages are sent to."), add()];
	const list = endpointList(context, appId, to.endpoint, none);
	return h("div", head("Endpoints", [], add()), limits(context, "manage"), h("section", list));
}

/** @type {View} */
export function messages(context) {
	const { to } = context;
	const problem = h("div", { role: "status" });
	const find = findForm("message id, event id or tag", async (text) => {
		fill(problem);
		try {
			await seek(context, text);
		} catch (error) {
			const gone = error.status === 404;
			fill(problem, gone ? empty(`No message has the id, the event id or the tag ${text}.`) : failure(error));
		}
	});
	const { nodes } = list(context, {
		caption: "Messages, newest first",
		noun: "messages",
		load: (page, signal) => read(context, page, signal),
		refresh: 2,
		columns: [
			["Message", (row) => idLink(row.eventId ?? row.id, to.message(row.id))],
			["Event type", (row) => link(row.eventType, to.type(row.eventType)), "wide"],
			["State", ({ states }) => states.length ? states.map((one) => h("div", state(one))) : "–"],
			["Tags", (row) => row.tags?.join(", ")],
			["Accepted", (row) => when(row.timestamp)],
		],
		empty: () => noneOf("message", "No message yet. They appear as something happens."),
		filters: [["event_types", "Event type"], ["tag", "Tag"], ...PERIOD],
	});
	return h("div", head("Messages"), h("section", find, problem, nodes));
}

/** A page of messages, each with the states of its deliveries. @param {Context} context */
async function read(context, page, signal) {
	const query = { with_content: false, ...filtered(), ...page };
	const found = await context.api.get(`${context.app}/msg`, { signal, query });
	// States must not keep the list from being shown.
	const states = await statesOfMessages(context, found.data, { tag: filtered().tag }, signal).catch(() => () => null);
	return { ...found, data: found.data.map((row) => ({ ...row, states: [...new Set(states(row))] })) };
}

/** Goes to the message with this id, or shows those with this tag. */
async function seek({ get, app, to }, text) {
	const tagged = await get(`${app}/msg`, { tag: text, limit: 1, with_content: false });
	if (tagged.data.length) return setQuery({ tag: text, event_types: "", after: "", before: "" });
	go(to.message((await get(app + path`/msg/${text}`, { with_content: false })).id));
}

const RIGHTS = [
	["See endpoints, messages and deliveries", null],
	["Add, change and delete endpoints", "manage"],
	["See signing secrets", "secret"],
	["Replace signing secrets", "rotate"],
	["Send messages again, send tests", "operate"],
];

/** @type {View} */
export function access({ api, get, app, may, signal, who, end }) {
	const about = load(signal, () => Promise.all([get(app), get("auth/token")]), ([{ name }, { featureFlags }]) =>
		facts(
			["Account", name],
			["Ends", who.expiresAt ? [when(who.expiresAt), " (", ago(who.expiresAt), ")"] : "never by itself"],
			featureFlags?.length > 0 && ["Early event types", featureFlags.join(", ")],
		));
	const leave = {
		title: "End this access?",
		text: "This link stops working everywhere, within seconds. For another, go where you got it.",
		run: () => api.post("auth/logout"),
		done: "Ended",
		then: end,
	};
	const columns = [["Action", ([text]) => text], ["Allowed", ([, right]) => right && may(right) ? "no" : "yes"]];
	return h(
		"div",
		head("Access"),
		section("This link", about),
		section("What it allows", table("What this link allows", columns, RIGHTS)),
		section(
			"End it",
			h("p", "If the link came into wrong hands, or you are on a computer of others."),
			action("End access", leave, { kind: "danger" }),
		),
	);
}
