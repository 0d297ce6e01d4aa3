/** Sends a message, and the first steps: from nothing to a message that arrives. */

import { path, random } from "../api.js";
import { quoted, sentence, word } from "../attempts.js";
import { fill, h, p } from "../dom.js";
import { code, copied, joined, pretty } from "../json.js";
import { fresh, table } from "../list.js";
import {
	action,
	area,
	buttons,
	columns,
	field,
	form,
	input,
	link,
	muted,
	section,
	state,
	when,
	words,
} from "../parts.js";
import { go, setQuery } from "../route.js";
import { addEndpoint } from "./applications.js";
import { example } from "./event-types.js";
import { appHref, endpointHref, head, messageHref, remember } from "./shared.js";

/** @param {Context} context */
export function send(context) {
	const { query } = context;
	const sent = (app, id) => go(messageHref(app, id));
	const form = messageForm(context, { app: query.get("app") ?? "", type: query.get("type") ?? "", sent });
	return h("div", head("Send a message", []), section("Message", form));
}

/**
 * @param {Context} context
 * @param {{app: string, type?: string, fixed?: boolean, sent: (app: string, id: string) => void}} options
 */
function messageForm({ api, get, signal, may }, { app, type = "", fixed, sent }) {
	const to = input({ required: true, value: app, list: "apps", disabled: fixed });
	const kind = input({ required: true, value: type, list: "types" });
	const eventId = input(), tags = input(), channels = input();
	const payload = area({ rows: 10, value: '{\n  "hello": "world"\n}' });
	const apps = h("datalist", { id: "apps" }), types = h("datalist", { id: "types" }), calls = h("div");
	let preset = payload.value;
	let registered = new Set();
	const fillIn = async () => {
		if (payload.value !== preset || !registered.has(kind.value)) return;
		const { data, text } = await api.call("GET", path`event-type/${kind.value}`, { signal });
		if (payload.value !== preset) return; // something was typed meanwhile
		payload.value = preset = pretty(example(text, data) ?? preset);
		show();
	};
	const body = () =>
		joined(
			{
				eventType: kind.value.trim(),
				eventId: eventId.value.trim() || undefined,
				tags: words(tags.value) ?? undefined,
				channels: words(channels.value) ?? undefined,
			},
			"payload",
			payload.value,
		);
	const show = () => {
		try {
			fill(calls, asProgram(api, to.value, body(), kind.value, payload.value));
		} catch (error) {
			fill(calls, h("p.hint", /** @type {Error} */ (error).message));
		}
	};
	const known = async () => {
		const [all, kinds] = await Promise.all([
			fixed ? { data: [] } : get("app", { limit: 250 }),
			get("event-type", { limit: 250 }),
		]);
		fill(apps, all.data.map(({ uid, id, name }) => h("option", { value: uid ?? id }, name)));
		fill(types, kinds.data.map(({ name }) => h("option", { value: name })));
		registered = new Set(kinds.data.map(({ name }) => name));
		kind.value ||= kinds.data[0]?.name ?? "hello.world";
		await fillIn();
	};
	// Only proposals: without them everything can be typed.
	known().catch(() => {}).finally(show);
	kind.addEventListener("change", () => fillIn().catch(() => {}));
	const run = async () => {
		const { id } = await api.post(path`app/${to.value.trim()}/msg`, body());
		sent(to.value.trim(), id);
	};
	const node = form(
		{ button: "Send", reason: may("send"), run },
		apps,
		types,
		!fixed && field("Application (id or uid)", to),
		field("Event type", kind, "If it is registered with an example, that is filled in."),
		field("Payload", payload, "JSON, sent byte for byte as it stands here."),
		!fixed && h(
			"details.bar",
			h("summary", "Event id, tags, channels"),
			field("Event id", eventId, "Your own id. A second message with it is refused."),
			field("Tags", tags, "Separated by commas; found by Find."),
			field("Channels", channels, "Separated by commas."),
		),
	);
	node.addEventListener("input", show);
	return columns(node, calls);
}

/** The same call as a program makes it. */
function asProgram(api, app, body, type, payload) {
	const to = app || "APPLICATION", quotedTo = JSON.stringify(to), kind = JSON.stringify(type);
	const python = `import json, os
from svix.api import MessageIn, Svix, SvixOptions

svix = Svix(os.environ["TOKEN"], SvixOptions(server_url="${server(api)}"))
svix.message.create(${quotedTo}, MessageIn(
    event_type=${kind},
    payload=json.loads(${JSON.stringify(payload)}),
))`;
	return samples({
		curl: curl(api, path`app/${to}/msg`, body),
		JavaScript: `${setUp(api)}
await svix.message.create(${quotedTo}, {
  eventType: ${kind},
  payload: ${payload},
});`,
		Python: python,
	});
}

/** The address that SDKs want. @param {Context["api"]} api */
const server = (api) => api.base.href.replace(/\/api\/v1\/$/, "");

const setUp = (api) =>
	`import { Svix } from "svix";

const svix = new Svix(process.env.TOKEN, { serverUrl: "${server(api)}" });`;

const curl = (api, to, body) =>
	`curl ${quoted(api.url(to).href)} \\
  -H "authorization: Bearer $TOKEN" -H "content-type: application/json" \\
  --data-raw ${quoted(body)}`;

function samples(ways) {
	const way = ([name, text]) => [h("h3", name), copied(text, name)];
	return h("details.figures", { open: true }, h("summary", "The same call in code"), Object.entries(ways).map(way));
}

/** The first steps. What was made is kept in the address. @param {Context} context */
export function start(context) {
	const { query } = context;
	const [app, endpoint, message] = ["app", "endpoint", "msg"].map((name) => query.get(name) ?? "");
	const step = (text, done, reached, draw) => section([text, " ", done && state("finished")], reached && draw());
	const made = (href) => link("Its page", href);
	return h(
		"div",
		head("First steps", []),
		step("1. Make an application", app, true, () => app ? made(appHref(app)) : stepOne(context)),
		step(
			"2. Add an endpoint",
			endpoint,
			app,
			() => endpoint ? made(endpointHref(app, endpoint)) : stepTwo(context, app),
		),
		step("3. Send a message and watch it arrive", message, endpoint, () => stepThree(context, app, message)),
	);
}

function stepOne({ api, may }) {
	const name = input({ required: true, value: "My first customer" }), uid = input();
	const run = async () => {
		const body = { name: name.value.trim(), uid: uid.value.trim() || null };
		setQuery({ app: remember(await api.post("app", body)).id });
	};
	return columns(
		form(
			{ button: "Make the application", reason: may("administer"), run },
			h("p", "An application stands for one of your customers, and has endpoints of its own."),
			field("Name", name),
			field("Uid", uid, "Your own id of this customer, if you like."),
		),
		samples({
			curl: curl(api, "app", '{"name": "My first customer"}'),
			JavaScript: `${setUp(api)}\nconst app = await svix.application.create({ name: "My first customer" });`,
		}),
	);
}

function stepTwo(context, app) {
	const { api, get, may } = context;
	const reason = may("administer"), key = random(), base = path`app/${app}/endpoint`;
	const own = async () => {
		const it = remember(await get(path`app/${app}`));
		addEndpoint(context, it, (made) => setQuery({ endpoint: made.id }));
	};
	const trial = async () => {
		const made = await api.post(base, { url: receiver(key), description: "Trial receiver" });
		setQuery({ endpoint: made.id, trial: key });
	};
	const box = buttons(action("Add endpoint", own, { reason, kind: "main" })), note = h("p.hint");
	get(receiver(key)).then(() => {
		box.prepend(action("Use the trial receiver", trial, { reason, kind: "main" }));
		note.textContent =
			"The trial receiver is a part of this server. It keeps what it gets for an hour, to be seen here.";
	}, ({ status }) => {
		if (status === 404) note.textContent = "This server has no trial receiver: give the URL of a receiver of your own.";
	});
	const url = "https://example.com/webhooks";
	return columns(
		h("div", h("p", "An endpoint is a URL to which the messages of this customer go."), note, box),
		samples({
			curl: curl(api, base, `{"url": "${url}"}`),
			JavaScript: `await svix.endpoint.create("${app}", { url: "${url}" });`,
		}),
	);
}

function stepThree(context, app, message) {
	const { get, signal, query } = context, trial = query.get("trial");
	const story = async () => {
		const { data } = await get(path`app/${app}/msg/${message}/explain`);
		/** @type {Column[]} */
		const columns = [
			["Endpoint", (row) => row.url],
			["State", (row) => state(word(row.verdict))],
			["Why", (row) => sentence(row.text), "wide"],
		];
		return h("div.list", table("Deliveries", columns, data));
	};
	const received = async () => {
		const { data } = await get(receiver(trial));
		if (data.length === 0) return muted("Nothing in the last hour.");
		return data.map(({ method, timestamp, headers, body }) => [
			p`${method} ${when(timestamp)}`,
			code(Object.entries(headers).map((header) => header.join(": ")).join("\n"), "Headers"),
			code(body, "Body", false),
		]);
	};
	return [
		message && [
			p`Sent. ${link("Its page", messageHref(app, message))} tells the whole story.`,
			fresh(signal, story),
			trial && [h("h3", "What the trial receiver got"), fresh(signal, received)],
			h("h3", "Send another one"),
		],
		messageForm(context, { app, fixed: true, sent: (_app, id) => setQuery({ msg: id }) }),
	];
}

/** The trial receiver's address, for messages and for reading. */
function receiver(key) {
	return new URL(`trial/${key}`, document.baseURI).href;
}
