/** The portal, for the customers of an organization, in a tab or in a frame: its token and its screens. */

import { Api, path } from "./api.js";
import { h } from "./dom.js";
import { keys } from "./keys.js";
import { framed, root, SITE } from "./page.js";
import { failure, link, loading } from "./parts.js";
import { access, endpoints, messages } from "./portal/screens.js";
import { dress, icon, isTrue } from "./portal/theme.js";
import { verify } from "./portal/verify.js";
import { href, match, parse } from "./route.js";
import { endpoint } from "./screens/endpoint.js";
import { eventType, eventTypes } from "./screens/event-types.js";
import { message } from "./screens/message.js";
import { poller, pollers } from "./screens/polling.js";

const KEY = "postrider-portal";
const embedded = globalThis.top !== globalThis.self;
const search = new URLSearchParams(location.search), fragment = new URLSearchParams(location.hash.slice(1));
const param = (name) => search.get(name) ?? fragment.get(name);
/** @type {string | null} */
let token = null;
/** @type {any} */
let who = null;
/** The route that was shown last: a new link leads back to it. */
let last = "";
const api = new Api("portal", () => token, () => ended());
/** @type {Record<string, View>} */
const screens = {
	endpoints,
	"endpoints/:endpoint": endpoint,
	"endpoints/:endpoint/:tab": endpoint,
	messages,
	"messages/:message": message,
	pollers,
	"pollers/:poller": poller,
	"event-types": eventTypes,
	"event-types/:type": eventType,
	verify,
	access,
};
const page = framed(
	{
		endpoints: "Endpoints",
		messages: "Messages",
		"event-types": "Event types",
		pollers: "Polling",
		verify: "Verify",
		access: "Access",
	},
	screens,
	() => ({
		api,
		who,
		appId: who.appId,
		portal: true,
		may,
		to: {
			endpoint: (id, ...more) => href(["endpoints", id, ...more]),
			message: (id, query) => href(["messages", id], query),
			type: (name) => href(["event-types", name]),
			tag: (tag) => href(["messages"], { tag }),
			poller: (id) => href(["pollers", id]),
		},
		end: ended,
	}),
);

begin();

async function begin() {
	dress(param);
	keys();
	// A frame without a token in its address must stay useless, so storage is for tabs alone.
	if (!takeToken() && !embedded) token = storage((all) => all.getItem(KEY)) ?? null;
	await enter();
	addEventListener("hashchange", () => takeToken() ? enter() : draw());
}

function draw() {
	if (!who) return;
	last = location.hash;
	page.draw();
}

/** Takes the token from the fragment, which no server sees, and removes it from the address. */
function takeToken() {
	const given = new URLSearchParams(location.hash.slice(1)).get("token");
	if (!given) return false;
	token = given;
	if (!embedded) storage((all) => all.setItem(KEY, given));
	history.replaceState(null, "", location.pathname + location.search + (last || first()));
	return true;
}

/** The browser may forbid storage; then the token is kept until the page is left. */
function storage(use) {
	try {
		return use(sessionStorage);
	} catch {
		return undefined;
	}
}

/** The route of the parameter `next` of Svix, if there is such a screen. */
function first() {
	const { parts, query } = parse(search.get("next") ?? "");
	return Object.keys(screens).some((pattern) => match(pattern, parts)) ? href(parts, query) : href(["endpoints"]);
}

/** Learns whose the token is, and draws the frame and the screen. */
async function enter() {
	page.leave();
	who = null;
	if (!token) return ended("This address has no key in it. Open the link that you were given.");
	if (!root.querySelector("main")) page.instead(loading());
	try {
		const known = await api.get("auth/whoami");
		if (!known.appId) return ended("This page is for links that were made for one customer.");
		const { name } = await api.get(path`app/${known.appId}`);
		who = known;
		const src = icon(param("icon"));
		page.frame(
			[
				src && h("img.icon", { src, alt: "", onerror: (event) => event.target.remove() }),
				link(name, href(["endpoints"]), { class: "brand" }),
				h("span.muted", "Webhooks"),
			],
			null,
			isTrue(param("hideNavigation")),
		);
		draw();
	} catch (error) {
		if (error.status === 404) ended();
		else if (error.status !== 401) page.instead(failure(error, enter));
	}
}

/** Says that the access is over, to the reader and to the embedding page. */
function ended(text) {
	who = token = null;
	if (!embedded) storage((all) => all.removeItem(KEY));
	document.title = SITE;
	const over = "The link has expired, or the access was ended. For a new link, go where you got this one.";
	const title = text ? "Webhooks" : "Your access has ended";
	page.instead(h("section.sign-in", { role: "alert" }, h("h1", title), h("p", text ?? over)));
	if (embedded) parent.postMessage({ type: "postrider:session-ended" }, "*");
}

/** @type {Context["may"]} */
function may(right) {
	const rights = {
		operate: ["CreateAttempts"],
		turn: ["ManageEndpoint"],
		manage: ["ManageEndpoint"],
		secret: ["ViewEndpointSecret", "ManageEndpointSecret", "ManageEndpoint"],
		rotate: ["ManageEndpointSecret"],
	};
	const given = who?.capabilities, wanted = rights[right];
	const allowed = wanted && (!given || wanted.some((capability) => given.includes(capability)));
	return allowed ? null : "This link does not allow it.";
}
