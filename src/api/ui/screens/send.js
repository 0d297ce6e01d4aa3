/**
 * Sends a message, and the first steps: from nothing to a message that arrives.
 *
 * @module
 */

import { ApiError, path, random } from "../api.js";
import { quoted } from "../attempts.js";
import { fill, h } from "../dom.js";
import { code, joined, pretty } from "../json.js";
import { table } from "../list.js";
import { action, copy, field, form, input, link, section, state, when } from "../parts.js";
import { go, href, setQuery } from "../route.js";
import { addEndpoint } from "./applications.js";
import { example } from "./event-types.js";
import { endpointHref, fresh, head, messageHref, remember } from "./shared.js";

/** @typedef {import("../console.js").Context} Context */

/** @param {Context} context */
export function send(context) {
	context.title("Send a message");
	const { query } = context;
	return h(
		"div",
		null,
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

/** @param {string} text */
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
	const fetchExample = async () => {
		if (payload.value !== preset || !typeField.value) return;
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
			asProgram(
				api,
				path`app/${appField.value || "APPLICATION"}/msg`,
				() => body(),
				typeField.value,
				payload.value,
				appField.value,
			),
		);
	const known = async () => {
		const [all, kinds] = await Promise.all([
			fixed ? { data: [] } : api.get("app", { signal, query: { limit: 250 } }),
			api.get("event-type", { signal, query: { limit: 250 } }),
		]);
		fill(apps, all.data.map((/** @type {any} */ one) => h("option", { value: one.uid ?? one.id }, one.name)));
		fill(types, kinds.data.map((/** @type {any} */ kind) => h("option", { value: kind.name })));
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
		field("Event type", typeField, "Of a registered type with an example, that is filled in."),
		field("Payload", payload, "JSON, sent byte for byte as it stands here."),
		!fixed &&
			h(
				"details",
				{ class: "bar" },
				h("summary", null, "Event id, tags, channels"),
				field("Event id", eventId, "Your own id. A second message with it is refused."),
				field("Tags", tags, "Separated by commas; found by Find."),
				field("Channels", channels, "Separated by commas."),
			),
	);
	node.addEventListener("input", show);
	return [node, calls];
}

/** The same call as a program makes it. @param {import("../api.js").Api} api @param {string} to @param {() => string} body @param {string} type @param {string} payload @param {string} app */
function asProgram(api, to, body, type, payload, app) {
	const server = api.base.href.replace(/\/api\/v1\/$/, "");
	let text;
	try {
		text = body();
	} catch (error) {
		return h("p", { class: "hint" }, /** @type {Error} */ (error).message);
	}
	const ways = [
		[
			"curl",
			`curl ${
				quoted(api.url(to).href)
			} \\\n  -H "authorization: Bearer $TOKEN" -H "content-type: application/json" \\\n  --data-raw ${
				quoted(text)
			}`,
		],
		[
			"JavaScript",
			`import { Svix } from "svix";\n\nconst svix = new Svix(process.env.TOKEN, { serverUrl: ${
				JSON.stringify(server)
			} });\nawait svix.message.create(${JSON.stringify(app || "APPLICATION")}, {\n  eventType: ${
				JSON.stringify(type)
			},\n  payload: ${payload},\n});`,
		],
		[
			"Python",
			`import json, os\nfrom svix.api import MessageIn, Svix, SvixOptions\n\nsvix = Svix(os.environ["TOKEN"], SvixOptions(server_url=${
				JSON.stringify(server)
			}))\nsvix.message.create(${JSON.stringify(app || "APPLICATION")}, MessageIn(\n    event_type=${
				JSON.stringify(type)
			},\n    payload=json.loads('''${payload.replaceAll("\\", "\\\\")}'''),\n))`,
		],
	];
	return h(
		"details",
		{ class: "figures" },
		h("summary", null, "The same as a program"),
		...ways.map(([name, text]) => [h("h3", null, name), code(text, name), copy(text, name)]),
	);
}

/** The first steps. What was made is kept in the address. @param {Context} context */
export function start(context) {
	const { api, signal, query, title, may } = context;
	title("First steps");
	const app = query.get("app"),
		endpoint = query.get("endpoint"),
		trial = query.get("trial"),
		message = query.get("msg");
	const step = message ? 4 : endpoint ? 3 : app ? 2 : 1;
	const name = input({ required: true, value: "My first customer" }), uid = input();
	const reason = may("administer");
	const server = api.base.href;
	const part = (
		/** @type {number} */ n,
		/** @type {string} */ text,
		/** @type {() => import("../dom.js").Children} */ draw,
	) => section([`${n}. ${text} `, n < step && state("finished")], n <= step && draw());
	const place = h("div");
	const stepTwo = () => {
		const own = action("Add endpoint", () => begin(""), { reason, kind: "main" });
		const begin = async (/** @type {string} */ url, /** @type {string} */ key = "") => {
			const it = remember(await api.get(path`app/${app ?? ""}`));
			await addEndpoint(context, it, url, (made) => setQuery({ endpoint: made.id, trial: key }));
		};
		const box = h("div", { class: "buttons" }, own);
		const key = random();
		api.get(receiver(key), { signal }).then(
			() =>
				box.prepend(
					action("Use the trial receiver", () => begin(receiver(key), key), { reason, kind: "main" }),
				),
			(error) =>
				error instanceof ApiError && error.status === 404 &&
				box.after(
					h(
						"p",
						{ class: "hint" },
						"This server has no trial receiver, so give the URL of a receiver of your own.",
					),
				),
		);
		return [
			h(
				"p",
				null,
				"An endpoint is a URL to which the customer's messages go. The trial receiver shows here what it gets, for an hour.",
			),
			box,
			calls(
				`curl ${
					quoted(server + `app/${app}/endpoint`)
				} -H "authorization: Bearer $TOKEN" -H "content-type: application/json" \\\n  -d '{"url": "https://example.com/webhooks"}'`,
				`await svix.endpoint.create("${app}", { url: "https://example.com/webhooks" });`,
			),
		];
	};
	fill(
		place,
		head("First steps", []),
		part(
			1,
			"Make an application",
			() =>
				step > 1
					? h("p", null, "One for each of your customers. ", link("Its page", href(["app", app ?? ""])))
					: [
						h("p", null, "An application stands for one of your customers, with endpoints of its own."),
						form(
							{
								button: "Make the application",
								reason,
								run: async () =>
									setQuery({
										app: remember(
											await api.post("app", { name: name.value.trim(), uid: uid.value.trim() || null }),
										).id,
									}),
							},
							field("Name", name),
							field("Uid", uid, "Your own id of this customer, if you like."),
						),
						calls(
							`curl ${
								quoted(server + "app")
							} -H "authorization: Bearer $TOKEN" -H "content-type: application/json" \\\n  -d '{"name": "My first customer"}'`,
							'const app = await svix.application.create({ name: "My first customer" });',
						),
					],
		),
		part(
			2,
			"Add an endpoint",
			() => step > 2 ? h("p", null, link("Its page", endpointHref(app ?? "", endpoint ?? ""))) : stepTwo(),
		),
		part(3, "Send a message and watch it arrive", () => [
			message &&
			h(
				"p",
				null,
				"Sent. ",
				link("The message's page", messageHref(app ?? "", message)),
				" tells the whole story. Send another one:",
			),
			messageForm(context, {
				app: app ?? "",
				type: "",
				fixed: true,
				sent: (_app, id) => setQuery({ msg: id }),
			}),
			message && h("h3", null, "What becomes of it"),
			message && fresh(signal, async () => {
				const { data } = await api.get(path`app/${app ?? ""}/msg/${message}/explain`, { signal });
				return h(
					"div",
					{ class: "list" },
					table("Deliveries", [["Endpoint", (row) => row.url], [
						"State",
						(row) => state(row.verdict === "notSent" ? "not sent" : row.verdict),
					], ["Why", (row) => row.text, "wide"]], data),
				);
			}),
			trial && [
				h("h3", null, "What the trial receiver got"),
				fresh(signal, async () => {
					const { data } = await api.get(receiver(trial), { signal });
					if (data.length === 0) {
						return h("p", { class: "muted" }, "Nothing yet. It shows requests of the last hour.");
					}
					return data.map((/** @type {any} */ got) =>
						h(
							"details",
							null,
							h("summary", null, got.method, " ", when(got.timestamp)),
							code(
								Object.entries(got.headers).map(([name, value]) => `${name}: ${value}`).join("\n"),
								"Headers",
							),
							code(got.body, "Body", { indent: true }),
						)
					);
				}),
			],
		]),
	);
	return place;
}

/** The trial receiver's address, for messages and for reading. @param {string} key */
function receiver(key) {
	return new URL(`trial/${key}`, document.baseURI).href;
}

/** @param {string} curl @param {string} script */
function calls(curl, script) {
	return h(
		"details",
		{ class: "figures" },
		h("summary", null, "The same as a program"),
		h("h3", null, "curl"),
		code(curl, "curl"),
		copy(curl, "curl"),
		h("h3", null, "JavaScript"),
		code(script, "JavaScript"),
		copy(script, "JavaScript"),
	);
}
