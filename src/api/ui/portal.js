/**
 * The portal: what the customers of an organization see of their own webhooks, in a tab or in a frame. Takes
 * the token, draws the frame, and shows the screen of each route. What a screen shows is its own.
 *
 * @module
 */

import { Api, path } from "./api.js";
import { fill, h } from "./dom.js";
import { keys } from "./keys.js";
import { live } from "./live.js";
import { failure, link } from "./parts.js";
import { go, href, match, onRoute, parse } from "./route.js";
import { screens } from "./portal/all.js";
import { dress, icon, isTrue } from "./portal/theme.js";

/**
 * What a screen gets; `app` is the path of the application, `can` says whether the token may do something.
 *
 * @typedef {import("./console.js").Context & Own} Context
 */
/** @typedef {{app: string, who: {appId: string, capabilities?: string[]}, can: (right: Right) => boolean, end: () => void}} Own */
/** @typedef {"manage" | "attempts" | "secret" | "rotate"} Right */

const KEY = "postrider-portal";
const framed = globalThis.top !== globalThis.self;
const page = /** @type {HTMLElement} */ (document.getElementById("page"));
const NAVIGATION = [
	["endpoints", "Endpoints"],
	["messages", "Messages"],
	["event-types", "Event types"],
	["verify", "Verify"],
	["access", "Access"],
];
/** @type {Record<Right, string[]>} */
const RIGHTS = {
	manage: ["ManageEndpoint"],
	attempts: ["CreateAttempts"],
	secret: ["ViewEndpointSecret", "ManageEndpointSecret", "ManageEndpoint"],
	rotate: ["ManageEndpointSecret"],
};

/** @type {string | null} */
let token = null;
/** @type {any} */
let who = null;
let route = "";
/** @type {AbortController | null} */
let shown = null;
let shownPath = "";
let keeps = false;

const api = new Api({
	base: new URL("api/v1/", document.baseURI),
	token: () => token,
	unauthorized: () => ended(),
});

start();

async function start() {
	const given = new URLSearchParams(location.hash.slice(1)), asked = new URLSearchParams(location.search);
	const param = (name) => asked.get(name) ?? given.get(name);
	dress(param);
	keys(find);
	// A frame without a token in its address must stay useless, so storage is for tabs alone.
	if (!takeToken() && !framed) token = storage((all) => all.getItem(KEY)) ?? null;
	await enter(param);
	onRoute(async () => {
		if (takeToken()) await enter(param);
		if (who) draw();
	});
}

/** Takes the token from the fragment, which no server sees, and removes it from the address. */
function takeToken() {
	const given = new URLSearchParams(location.hash.slice(1)).get("token");
	if (!given) return false;
	token = given;
	if (!framed) storage((all) => all.setItem(KEY, given));
	history.replaceState(null, "", location.pathname + location.search + (route || first()));
	return true;
}

/** Storage can be forbidden by the browser; then the token is kept until the page is left. @template T @param {(all: Storage) => T} use */
function storage(use) {
	try {
		return use(sessionStorage);
	} catch {
		return undefined;
	}
}

/** The route of the parameter `next`, if there is such a screen. */
function first() {
	const { parts, query } = parse(new URLSearchParams(location.search).get("next") ?? "");
	return screens.some(([pattern]) => match(pattern, parts)) ? href(parts, query) : href(["endpoints"]);
}

/** Learns whose the token is, and draws the frame. */
async function enter(param) {
	leave();
	who = null;
	if (!token) return ended("This address has no key in it. Open the link that you were given.");
	if (!page.querySelector("main")) {
		fill(page, h("main", h("p", { class: "waiting", role: "status" }, "Loading…")));
	}
	try {
		const known = await api.get("auth/whoami");
		if (!known.appId) return ended("This page is for links that were made for one customer.");
		const { name } = await api.get(path`app/${known.appId}`);
		who = known;
		frame(name, param);
	} catch (error) {
		const { status } = /** @type {import("./api.js").ApiError} */ (error);
		if (status === 401) return;
		if (status === 404) return ended();
		fill(page, h("main", failure(error, () => enter(param).then(() => who && draw()))));
	}
}

/** Says that the access is over, to the reader and to the embedding page. */
function ended(text) {
	leave();
	who = token = null;
	if (!framed) storage((all) => all.removeItem(KEY));
	document.title = "Webhooks";
	fill(
		page,
		h(
			"main",
			h(
				"section",
				{ class: "sign-in", role: "alert" },
				h("h1", text ? "Webhooks" : "Your access has ended"),
				h(
					"p",
					text ?? "The link has expired, or the access was ended. For a new link, go where you got this one.",
				),
			),
		),
	);
	if (framed) parent.postMessage({ type: "postrider:session-ended" }, "*");
}

/** Draws what is around each screen. */
function frame(name, param) {
	const image = icon(param("icon"));
	const main = h("main", { id: "main", tabindex: -1 });
	const pause = h("button", { type: "button", onclick: () => live.pause(!live.paused) }, "Pause updates");
	live.addEventListener("change", () => pause.textContent = live.paused ? "Resume updates" : "Pause updates");
	const around = [
		link("To the content", "#main", {
			class: "skip",
			onclick: (event) => (event.preventDefault(), main.focus()),
		}),
		h(
			"header",
			{ class: "top" },
			image && h("img", { class: "icon", src: image, alt: "", onerror: (event) => event.target.remove() }),
			link(name, href(["endpoints"]), { class: "brand" }),
			h("span", { class: "muted" }, "Webhooks"),
			pause,
		),
		h(
			"nav",
			{ class: "main", "aria-label": "Screens" },
			...NAVIGATION.map(([path, text]) => link(text, href([path]))),
		),
	];
	fill(page, ...(isTrue(param("hideNavigation")) ? [] : around), main);
}

/** The field that `/` goes to; it is on the screen of the messages. */
function find() {
	const field = () => document.getElementById("find");
	if (!field()) {
		go(href(["messages"]));
		addEventListener("hashchange", () => field()?.focus(), { once: true });
	}
	return field();
}

function leave() {
	shown?.abort();
	shown = null;
	shownPath = "";
}

/** Shows the screen of the present route. */
function draw() {
	const { parts: given, query } = parse();
	const parts = given.length ? given : ["endpoints"];
	const now = parts.join("/");
	route = href(parts, query);
	if (keeps && shown && now === shownPath) return;
	const moved = shownPath !== "" && now !== shownPath;
	leave();
	const controller = shown = new AbortController();
	[shownPath, keeps] = [now, false];
	for (const item of page.querySelectorAll("nav.main a")) {
		item.toggleAttribute("aria-current", false);
		if (item.getAttribute("href") === href([parts[0]])) item.setAttribute("aria-current", "page");
	}
	const main = /** @type {HTMLElement} */ (page.querySelector("main"));
	for (const [pattern, screen] of screens) {
		const params = match(pattern, parts);
		if (!params) continue;
		fill(main, screen(context(controller.signal, params, query)));
		if (moved) {
			scrollTo(0, 0);
			main.focus({ preventScroll: true });
		}
		return;
	}
	title("Not found");
	fill(
		main,
		h("h1", "There is no such page"),
		h("p", link("To the endpoints", href(["endpoints"]))),
	);
}

function context(signal, params, query) {
	const keep = () => {
		keeps = true;
	};
	const app = path`app/${who.appId}`;
	return { api, who, app, signal, params, query, can, may, title, keep, end: () => ended() };
}

function can(right) {
	const given = who?.capabilities;
	return !given || RIGHTS[right].some((capability) => given.includes(capability));
}

/** @type {Context["may"]} */
function may(act) {
	return act === "operate" && can("attempts") ? null : "This link does not allow it.";
}

function title(text) {
	document.title = `${text} · Webhooks`;
}
