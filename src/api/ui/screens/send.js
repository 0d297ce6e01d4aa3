/**
 * Sends a message, and the first steps: from nothing to a message that arrives.
 *
 * @module
 */

import { path, random } from "../api.js";
import { quoted, sentence, word } from "../attempts.js";
import { fill, h } from "../dom.js";
import { code, joined, pretty } from "../json.js";
import { table } from "../list.js";
import { action, copy, field, form, input, link, section, state, when } from "../parts.js";
import { go, setQuery } from "../route.js";
import { addEndpoint } from "./applications.js";
import { example } from "./event-types.js";
import { appHref, endpointHref, fresh, head, messageHref, remember } from "./shared.js";

/** @typedef {import("../console.js").Context} Context */

/** @param {Context} context */
export function send(context) {
	context.title("Send a message");
	const { query } = context;
	return h(
		"div",
		head("Send a message", []),
		section(
			"Message",
			messageForm(context, {
				app: query.get("app") ?? "",
				type: query.get("type") ?? "",
				sent: (app, id) => go(messageHref(app, id)),
			}),
		),
	);
}

const words = (text) => text.split(/[\s,]+/).filter(Boolean);

/**
 * @param {Context} context
 * @param {{app: string, type: string, fixed?: boolean, sent: (app: string, id: string) => void}} options
 */
function messageForm({ api, signal, may }, { app, type, fixed, sent }) {
	const appField = input({ required: true, value: app, list: "apps", disabled: fixed });
	const typeField = input({ required: true, value: type, list: "types" });
	const eventId = input(), tags = input(), channels = input();
	const payload = h("textarea", {
		class: "mono",
		rows: 10,
		spellcheck: "false",
		value: '{\n  "hello": "world"\n}',
	});
	const apps = h("datalist", { id: "apps" }), types = h("datalist", { id: "types" });
	const calls = h("div");
	let preset = payload.value;
	/** @type {Set<string>} */
	let registered = new Set();
	const fetchExample = async () => {
		if (payload.value !== preset || !registered.has(typeField.value)) return;
		const { data, text } = await api.call("GET", path`event-type/${typeField.value}`, { signal });
		payload.value = preset = pretty(example(text, data) ?? preset);
		show();
	};
	const body = () =>
		joined(
			{
				eventType: typeField.value.trim(),
				...(eventId.value ? { eventId: eventId.value.trim() } : {}),
				...(tags.value ? { tags: words(tags.value) } : {}),
				...(channels.value ? { channels: words(channels.value) } : {}),
			},
			"payload",
			payload.value,
		);
	const show = () =>
		fill(
			calls,
			asProgram(api, appField.value, body, typeField.value, payload.value),
		);
	const known = async () => {
		const [all, kinds] = await Promise.all([
			fixed ? { data: [] } : api.get("app", { signal, query: { limit: 250 } }),
			api.get("event-type", { signal, query: { limit: 250 } }),
		]);
		fill(apps, all.data.map((one) => h("option", { value: one.uid ?? one.id }, one.name)));
		fill(types, kinds.data.map((kind) => h("option", { value: kind.name })));
		registered = new Set(kinds.data.map((kind) => kind.name));
		if (!typeField.value) typeField.value = kinds.data[0]?.name ?? "hello.world";
		await fetchExample();
	};
	// Only proposals: without them everything can be typed.
	known().catch(() => {}).finally(show);
	typeField.addEventListener("change", () => fetchExample().catch(() => {}));
	const node = form(
		{
			button: "Send",
			reason: may("send"),
			run: async () => {
				const { data } = await api.call("POST", path`app/${appField.value.trim()}/msg`, { body: body() });
				sent(appField.value.trim(), data.id);
			},
		},
		apps,
		types,
		!fixed && field("Application (id or uid)", appField),
		field("Event type", typeField, "If it is registered with an example, that is filled in."),
		field("Payload", payload, "JSON, sent byte for byte as it stands here."),
		!fixed &&
			h(
				"details",
				{ class: "bar" },
				h("summary", "Event id, tags, channels"),
				field("Event id", eventId, "Your own id. A second message with it is refused."),
				field("Tags", tags, "Separated by commas; found by Find."),
				field("Channels", channels, "Separated by commas."),
			),
	);
	node.addEventListener("input", show);
	return h("div", { class: "columns" }, node, calls);
}

/** The same call as a program makes it. */
function asProgram(api, app, body, type, payload) {
	let text;
	try {
		text = body();
	} catch (error) {
		return h("p", { class: "hint" }, /** @type {Error} */ (error).message);
	}
	const to = JSON.stringify(app || "APPLICATION"), kind = JSON.stringify(type);
	return samples(
		["curl", curl(api, path`app/${app || "APPLICATION"}/msg`, text)],
		[
			"JavaScript",
			`${setUp(api)}\nawait svix.message.create(${to}, {\n  eventType: ${kind},\n  payload: ${payload},\n});`,
		],
		[
			"Python",
			`import json, os
from svix.api import MessageIn, Svix, SvixOptions

svix = Svix(os.environ["TOKEN"], SvixOptions(server_url="${server(api)}"))
svix.message.create(${to}, MessageIn(
    event_type=${kind},
    payload=json.loads(${JSON.stringify(payload)}),
))`,
		],
	);
}

/** The address that SDKs want. @param {import("../api.js").Api} api */
const server = (api) => api.base.href.replace(/\/api\/v1\/$/, "");

const setUp = (api) =>
	`import { Svix } from "svix";\n\nconst svix = new Svix(process.env.TOKEN, { serverUrl: "${
		server(api)
	}" });`;

const curl = (api, to, body) =>
	`curl ${quoted(api.url(to).href)} \\
  -H "authorization: Bearer $TOKEN" -H "content-type: application/json" \\
  --data-raw ${quoted(body)}`;

/** @param {...[name: string, text: string]} ways */
function samples(...ways) {
	const way = ([name, text]) => [h("h3", name), code(text, name), copy(text, name)];
	return h("details", { class: "figures", open: true }, h("summary", "The same call in code"), ways.map(way));
}

/** The first steps. What was made is kept in the address. @param {Context} context */
export function start(context) {
	const { query, title } = context;
	title("First steps");
	const [app, endpoint, message] = ["app", "endpoint", "msg"].map((name) => query.get(name) ?? "");
	const done = [app, endpoint, message];
	const part = (n, text, draw) => {
		const reached = n === 0 || done[n - 1];
		return section([`${n + 1}. ${text} `, done[n] && state("finished")], reached && draw());
	};
	return h(
		"div",
		head("First steps", []),
		part(0, "Make an application", () => app ? link("Its page", appHref(app)) : stepOne(context)),
		part(
			1,
			"Add an endpoint",
			() => endpoint ? link("Its page", endpointHref(app, endpoint)) : stepTwo(context, app),
		),
		part(2, "Send a message and watch it arrive", () => stepThree(context, app, message)),
	);
}

function stepOne({ api, may }) {
	const name = input({ required: true, value: "My first customer" }), uid = input();
	const run = async () => {
		const body = { name: name.value.trim(), uid: uid.value.trim() || null };
		setQuery({ app: remember(await api.post("app", body)).id });
	};
	return h(
		"div",
		{ class: "columns" },
		form(
			{ button: "Make the application", reason: may("administer"), run },
			h("p", "An application stands for one of your customers, and has endpoints of its own."),
			field("Name", name),
			field("Uid", uid, "Your own id of this customer, if you like."),
		),
		samples(
			["curl", curl(api, "app", '{"name": "My first customer"}')],
			[
				"JavaScript",
				`${setUp(api)}\nconst app = await svix.application.create({ name: "My first customer" });`,
			],
		),
	);
}

function stepTwo(context, app) {
	const { api, signal, may } = context;
	const reason = may("administer"), key = random();
	const own = async () => {
		const it = remember(await api.get(path`app/${app}`));
		await addEndpoint(context, it, "", (made) => setQuery({ endpoint: made.id }));
	};
	const trial = async () => {
		const made = await api.post(path`app/${app}/endpoint`, {
			url: receiver(key),
			description: "Trial receiver",
		});
		setQuery({ endpoint: made.id, trial: key });
	};
	const box = h("div", { class: "buttons" }, action("Add endpoint", own, { reason, kind: "main" }));
	const note = h("p", { class: "hint" });
	api.get(receiver(key), { signal }).then(() => {
		box.prepend(action("Use the trial receiver", trial, { reason, kind: "main" }));
		note.textContent =
			"The trial receiver is a part of this server. It keeps what it gets for an hour, and you see it here.";
	}, ({ status }) => {
		if (status === 404) {
			note.textContent = "This server has no trial receiver: give the URL of a receiver of your own.";
		}
	});
	const url = "https://example.com/webhooks";
	return h(
		"div",
		{ class: "columns" },
		h("div", h("p", "An endpoint is a URL to which the messages of this customer go."), note, box),
		samples(
			["curl", curl(api, path`app/${app}/endpoint`, `{"url": "${url}"}`)],
			["JavaScript", `await svix.endpoint.create("${app}", { url: "${url}" });`],
		),
	);
}

function stepThree(context, app, message) {
	const { api, signal, query } = context;
	const trial = query.get("trial");
	const story = async () => {
		const { data } = await api.get(path`app/${app}/msg/${message}/explain`, { signal });
		/** @type {import("../list.js").Column[]} */
		const columns = [
			["Endpoint", (row) => row.url],
			["State", (row) => state(word(row.verdict))],
			["Why", (row) => sentence(row.text), "wide"],
		];
		return h("div", { class: "list" }, table("Deliveries", columns, data));
	};
	const received = async () => {
		const { data } = await api.get(receiver(trial), { signal });
		if (data.length === 0) return h("p", { class: "muted" }, "Nothing in the last hour.");
		return data.map(({ method, timestamp, headers, body }) => [
			h("p", method, " ", when(timestamp)),
			code(Object.entries(headers).map((header) => header.join(": ")).join("\n"), "Headers"),
			code(body, "Body"),
		]);
	};
	return [
		message && [
			h("p", "Sent. ", link("Its page", messageHref(app, message)), " tells the whole story."),
			fresh(signal, story),
		],
		message && trial && [h("h3", "What the trial receiver got"), fresh(signal, received)],
		message && h("h3", "Send another one"),
		messageForm(context, { app, type: "", fixed: true, sent: (_app, id) => setQuery({ msg: id }) }),
	];
}

/** The trial receiver's address, for messages and for reading. */
function receiver(key) {
	return new URL(`trial/${key}`, document.baseURI).href;
}
