/** Sends a message, and the first steps: from nothing to a message that arrives. */

import { path, random } from "../api.js";
import { curl, sentence } from "../attempts.js";
import { fill, h, p } from "../dom.js";
import { code, joined, pretty } from "../json.js";
import { fresh } from "../list.js";
import { action, buttons, columns, fieldsOf, form, hint, link, muted, section, state, when } from "../parts.js";
import { go, setQuery } from "../route.js";
import { addEndpoint } from "./endpoint-form.js";
import { example } from "./event-types.js";
import { appHref, endpointHref, head, inCode, messageHref, remember } from "./shared.js";

/** @type {View} */
export function send(context) {
	const { query } = context, values = { app: query.get("app"), eventType: query.get("type") };
	const form = messageForm(context, values, (app, id) => go(messageHref(app, id)));
	return h("div", head("Send a message"), section("Message", form));
}

/** @param {Context} context */
function messageForm({ api, get, signal, may }, values, sent) {
	const customer = h("span");
	const { nodes, controls, read } = fieldsOf(
		{ payload: '{\n  "hello": "world"\n}', ...values },
		["app", "Application (id or uid)", customer, { required: true, list: "apps", onchange: () => whose() }],
		["eventType", "Event type", "If it is registered with an example, that is filled in.", {
			required: true,
			list: "types",
			onchange: () => fillIn().catch(() => {}),
		}],
		["payload", "Payload", "JSON, sent byte for byte as it stands here.", { type: "area", rows: 10 }],
		["eventId", "Event id", "Your own id. A second message with it is refused."],
		["tags", "Tags", "Separated by commas; found by Find.", { type: "words" }],
		["channels", "Channels", "Separated by commas.", { type: "words" }],
	);
	const { eventType: kind, payload } = controls;
	const apps = h("datalist", { id: "apps" }), types = h("datalist", { id: "types" }), calls = h("div");
	let preset = payload.value;
	let registered = new Set();
	// What is selected is about to be replaced: a text that came now would stand beside the one that is typed.
	const isTouched = () => payload.value !== preset || payload.selectionStart !== payload.selectionEnd;
	const fillIn = async () => {
		if (isTouched() || !registered.has(kind.value)) return;
		const { data, text } = await api.call("GET", path`event-type/${kind.value}`, { signal });
		if (isTouched()) return;
		payload.value = preset = pretty(example(text, data) ?? preset);
		show();
	};
	const message = () => {
		const { app, payload, ...rest } = read();
		return { app: app ?? "APPLICATION", rest, body: joined(rest, "payload", payload ?? "") };
	};
	const show = () => {
		try {
			const { app, rest, body } = message(), text = JSON.stringify;
			const fields = Object.entries(rest).map(([name, value]) => value && `  ${name}: ${text(value)},\n`);
			const content = pretty(payload.value).replaceAll("\n", "\n  ");
			const create = `{\n${fields.filter(Boolean).join("")}  payload: ${content},\n}`;
			fill(calls, samples(api, path`app/${app}/msg`, body, `await svix.message.create(${text(app)}, ${create});`));
		} catch (error) {
			fill(calls, hint(error.message));
		}
	};
	const whose = () =>
		get(path`app/${controls.app.value}`).then(({ name }) => fill(customer, name), () => fill(customer));
	if (values.app) whose();
	const known = async () => {
		const [all, kinds] = await Promise.all([get("app", { limit: 250 }), get("event-type", { limit: 250 })]);
		fill(apps, all.data.map(({ uid, id, name }) => h("option", { value: uid ?? id }, name)));
		fill(types, kinds.data.map(({ name }) => h("option", { value: name })));
		registered = new Set(kinds.data.map(({ name }) => name));
		if (kind !== document.activeElement) kind.value ||= kinds.data[0]?.name ?? "hello.world";
		await fillIn();
	};
	// Only proposals: without them everything can be typed.
	known().catch(() => {}).finally(show);
	const run = async () => {
		const { app, body } = message();
		sent(app, (await api.post(path`app/${app}/msg`, body)).id);
	};
	const more = h("details.bar", h("summary", "Event id, tags, channels"), nodes.slice(3));
	const node = form({ button: "Send", reason: may("send"), run }, apps, types, nodes.slice(0, 3), more);
	node.addEventListener("input", show);
	return columns(node, calls);
}

/** A call of the API as programs make it. */
function samples(api, to, body, javascript) {
	const options = ['-H "authorization: Bearer $TOKEN"', '-H "content-type: application/json"'];
	return inCode(api, curl(api.url(to).href, options, body), javascript);
}

/** The first steps. What was made is kept in the address. @type {View} */
export function start(context) {
	const { query } = context;
	const [app, endpoint, message] = ["app", "endpoint", "msg"].map((name) => query.get(name) ?? "");
	const step = (text, done, ...children) => section([text, " ", done && state("finished")], ...children);
	const made = (href) => link("Its page", href);
	return h(
		"div",
		head("First steps"),
		step("1. Make an application", app, app ? made(appHref(app)) : stepOne(context)),
		step("2. Add an endpoint", endpoint, endpoint ? made(endpointHref(app, endpoint)) : app && stepTwo(context, app)),
		step("3. Send a message and watch it arrive", message, endpoint && stepThree(context, app, message)),
	);
}

function stepOne({ api, may }) {
	const name = "My first customer";
	const { nodes, read } = fieldsOf({ name }, ["name", "Name", "", { required: true }]);
	const run = async () => setQuery({ app: remember(await api.post("app", read())).id });
	return columns(
		form(
			{ button: "Make the application", reason: may("administer"), run },
			h("p", "An application stands for one of your customers, and has endpoints of its own."),
			nodes,
		),
		samples(api, "app", `{"name": "${name}"}`, `const app = await svix.application.create({ name: "${name}" });`),
	);
}

function stepTwo(context, app) {
	const { api, get, may } = context;
	const reason = may("administer"), key = random(), base = path`app/${app}/endpoint`;
	const own = () => addEndpoint(context, app, (made) => setQuery({ endpoint: made.id }));
	const trial = async () => {
		const url = new URL(`trial/${key}`, document.baseURI).href;
		const made = await api.post(base, { url, description: "Trial receiver" });
		setQuery({ endpoint: made.id, trial: key });
	};
	// What comes later stands behind and below, so that nothing moves from under the pointer.
	const box = buttons(action("Add endpoint", own, { reason, kind: "main" })), note = h("p.hint");
	get(`trial/${key}`).then(() => {
		box.append(action("Use the trial receiver", trial, { reason, kind: "main" }));
		note.textContent =
			"The trial receiver is a part of this server. It keeps what it gets for an hour, to be seen here.";
	}, ({ status }) => {
		if (status !== 404) return;
		note.textContent =
			"This server has no trial receiver, because it may not call its own machine. Start it with POSTRIDER_ALLOW_TARGETS=127.0.0.0/8 and load this page again, or give the URL of a receiver of your own.";
	});
	const url = "https://example.com/webhooks";
	return columns(
		h("div", h("p", "An endpoint is a URL to which the messages of this customer go."), box, note),
		samples(api, base, `{"url": "${url}"}`, `await svix.endpoint.create("${app}", { url: "${url}" });`),
	);
}

function stepThree(context, app, message) {
	const { get, signal, query } = context, trial = query.get("trial");
	const story = async () => h("p", sentence((await get(path`app/${app}/msg/${message}/explain`)).text));
	const received = async () => {
		const { data } = await get(`trial/${trial}`);
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
		messageForm(context, { app }, (_app, id) => setQuery({ msg: id })),
	];
}
