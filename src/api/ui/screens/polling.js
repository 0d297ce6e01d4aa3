/** Pollers, which keep messages for programs that ask for them: how far those are behind, secret and tokens. */

import { path } from "../api.js";
import { h } from "../dom.js";
import { fresh, keptTable, list, load } from "../list.js";
import { ago, ask, capped, fieldsOf, hoursAgo, link, mono, muted, say, section } from "../parts.js";
import { go, href } from "../route.js";
import { endpointFields, endpointSettings, secretSection } from "./endpoint-form.js";
import { endpointState, head, inCode, turn, way } from "./shared.js";
import { tokenList } from "./tokens.js";

const behind = ({ waiting, waitingSince }) =>
	waiting ? [capped(waiting), " behind, the oldest from ", ago(waitingSince)] : "up to date";

/** The pollers of an application. @param {Context} context */
export function pollerList(context) {
	const { api, app, to, nameOf } = context;
	const read = async (page, signal) => {
		const found = await api.get(`${app}/poller`, { signal, query: page });
		const consumers = await Promise.all(
			found.data.map(({ id }) => api.get(app + path`/poller/${id}/consumer`, { signal, query: { limit: 100 } })),
		);
		return { ...found, data: found.data.map((row, i) => ({ ...row, consumers: consumers[i].data })) };
	};
	return list(context, {
		caption: "Pollers",
		noun: "pollers",
		refresh: 10,
		load: read,
		columns: [
			["Poller", (row) => link(nameOf(row), to.poller(row.id))],
			["State", endpointState],
			["Event types", (row) => row.eventTypes?.join(", ") ?? "all"],
			["Consumers", ({ consumers }) => consumers.map((row) => h("div", row.name, ": ", behind(row))), "wide"],
		],
		empty: () =>
			"None. A program that cannot be called, behind a firewall or at a laptop, asks a poller for its messages.",
	}).nodes;
}

/** What adds a poller, and shows its secret. @param {Context} context */
export function addPoller(context, kind = "") {
	const { api, act, app, to } = context;
	const begin = () => {
		const { nodes, read } = endpointFields(context, {}, "poller");
		const run = async () => go(`${to.poller((await api.post(`${app}/poller`, read())).id)}?new=1`);
		ask({ title: "Add a poller", button: "Add poller", run }, nodes);
	};
	return act("manage", "Add poller", begin, { kind });
}

/** @type {View} */
export function pollers(context) {
	return h("div", head("Polling", [], addPoller(context, "main")), h("section", pollerList(context)));
}

/** @type {View} */
export function poller(context) {
	const { api, app, appId, get, nameOf, params, portal, query, redraw, signal } = context;
	const base = app + path`/poller/${params.poller}`, isNew = query.has("new");
	return load(signal, () => get(`${base}/settings`), (it) => {
		const write = async (body) => {
			await api.patch(base, body);
			redraw();
		};
		const tokens = tokenList(context, `${base}/token`, "manage");
		const gone = href(portal ? ["pollers"] : ["app", appId]);
		return [
			head(
				[nameOf(it), " ", endpointState(it)],
				way(context, "pollers", "Polling"),
				turn(context, "turn", it, write),
			),
			isNew && h("p.done", "The poller was added. Make a token, and let your program ask with it."),
			section("Consumers", consumers(context, base)),
			section("Tokens", tokens.nodes, tokens.add),
			section(
				"Read",
				h("p", "A program asks again and again, each time with the iterator of the last page."),
				example(api, `${base}/consumer/main`, [appId, it.id, "main"]),
			),
			secretSection(context, base, isNew),
			endpointSettings(context, base, it, write, gone, "poller"),
		];
	});
}

function consumers({ api, act, get, signal }, base) {
	const seek = ({ name }) => {
		const { nodes, read } = fieldsOf(
			{ after: hoursAgo(1) },
			["after", "Begin at", "Its next page begins with the first message from then on. Messages may come again.", {
				type: "datetime-local",
				required: true,
			}],
		);
		const run = async () => {
			await api.post(base + path`/consumer/${name}/seek`, read());
			say(`${name} was moved`);
		};
		ask({ title: `Move ${name}`, button: "Seek", run }, nodes);
	};
	const rows = keptTable("Consumers", [
		["Consumer", (row) => mono(row.name)],
		["Where it stands", behind],
		["Last used", (row) => ago(row.lastUsedAt)],
		["Action", (row) => act("operate", "Seek", () => seek(row), { about: row.name }), "actions"],
	], (row) => row.name);
	const none = muted("No program has asked yet. Its first poll makes a consumer, whose place is kept here.");
	return fresh(signal, async () => {
		const { data } = await get(`${base}/consumer`, { limit: 100 });
		rows.set(data);
		none.hidden = data.length > 0;
		return [rows.node, none];
	});
}

function example(api, base, names) {
	const url = api.url(base, { wait: 25 }).href;
	return inCode(
		api,
		`curl -H "authorization: Bearer $TOKEN" '${url}'\n# then again and again, with the iterator of the answer: &iterator=…`,
		`let iterator;
while (true) {
  const page = await svix.message.poller.consumerPoll(${
			names.map((name) => JSON.stringify(name)).join(", ")
		}, { iterator });
  for (const message of page.data) console.log(message.id, message.payload);
  iterator = page.iterator;
  if (page.done) await new Promise((done) => setTimeout(done, 2000));
}`,
		"A call to read",
	);
}
