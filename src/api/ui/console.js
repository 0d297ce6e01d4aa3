/**
 * The console: signs in, draws the frame, and shows the screen of each route. What a screen shows is its own.
 *
 * @module
 */

import { Api, ApiError } from "./api.js";
import { fill, h } from "./dom.js";
import { keys } from "./keys.js";
import { live } from "./live.js";
import { failure, field, form, input, link } from "./parts.js";
import { go, href, match, onRoute, parse } from "./route.js";
import { screens } from "./screens/all.js";

/**
 * What a screen gets. `may` returns null or the reason why not; `title` names the screen; `keep` is called by
 * screens that follow changes of the query themselves.
 *
 * @typedef {object} Context
 * @property {Api} api
 * @property {Who} who
 * @property {AbortSignal} signal ends when the screen is left
 * @property {Record<string, string>} params
 * @property {URLSearchParams} query
 * @property {(act: "operate" | "administer" | "send") => string | null} may
 * @property {(title: string) => void} title
 * @property {() => void} keep
 */
/** @typedef {{organizationId: string, tokenId: string, name: string | null, role: string, expiresAt: string | null}} Who */

const KEY = "postrider-console";
const page = /** @type {HTMLElement} */ (document.getElementById("page"));
const api = new Api({
	base: new URL("api/v1/", document.baseURI),
	token: () => sessionStorage.getItem(KEY),
	unauthorized: (error) => signIn(error),
});
const NAVIGATION = [
	["overview", "Overview"],
	["app", "Applications"],
	["event-type", "Event types"],
	["task", "Tasks"],
	["operational", "Operational webhooks"],
	["token", "Tokens"],
	["audit", "Audit"],
	["send", "Send a message"],
];

/** @type {Who | null} */
let who = null;
/** @type {AbortController | null} */
let shown = null;
let shownPath = "";
let keeps = false;

start();

async function start() {
	keys(() => document.getElementById("find"));
	if (!await redeem()) await (sessionStorage.getItem(KEY) ? enter() : signIn());
	onRoute(async () => {
		await redeem();
		if (who) draw();
	});
}

/** Changes the code of a one-time link for a token. Returns whether the address had one. */
async function redeem() {
	const code = new URLSearchParams(location.hash.slice(1)).get("code");
	if (!code) return false;
	history.replaceState(null, "", location.pathname + location.search);
	fill(page, h("main", h("p", { class: "waiting", role: "status" }, "Signing in…")));
	try {
		const { token } = await api.post("auth/console-session", { code }, { open: true });
		sessionStorage.setItem(KEY, token);
		await enter();
	} catch (error) {
		who = null;
		signIn(
			/** @type {ApiError} */ (error),
			"This link did not sign you in: a link works once, and only for a few minutes.",
		);
	}
	return true;
}

/** Learns whose the token is, and draws the frame. */
async function enter() {
	if (!page.querySelector("main")) {
		fill(page, h("main", h("p", { class: "waiting", role: "status" }, "Loading…")));
	}
	try {
		who = await api.get("auth/whoami");
		if (who?.role === "portal") {
			throw new ApiError(
				"This token belongs to one application. The console needs a token of the organization.",
				403,
			);
		}
		frame();
	} catch (error) {
		who = null;
		if (/** @type {ApiError} */ (error).status === 401) return;
		if (/** @type {ApiError} */ (error).status === 403) return signIn(/** @type {ApiError} */ (error));
		fill(page, h("main", failure(error, () => enter().then(() => who && draw()))));
	}
}

/** Asks for a token. The address stays, so that signing in leads back. @param {Error} [error] @param {string} [text] */
function signIn(error, text) {
	leave();
	const again = who !== null;
	who = null;
	sessionStorage.removeItem(KEY);
	document.title = "Sign in · Postrider";
	const token = input({ type: "password", required: true, class: "mono", name: "token" });
	const run = async () => {
		sessionStorage.setItem(KEY, token.value.trim());
		await enter();
		if (who) draw();
	};
	fill(
		page,
		h(
			"main",
			h(
				"section",
				{ class: "sign-in" },
				h("h1", "Postrider"),
				(text || again) &&
					h(
						"p",
						text ??
							"Your session has ended: the token has expired or was revoked. Sign in again to go on where you were.",
					),
				error && failure(error),
				form(
					{ button: "Sign in", run },
					field("Token", token, [
						"Made on the server by ",
						h("span", { class: "mono" }, "app token create"),
						". It is kept in this tab until it is closed.",
					]),
				),
				h(
					"p",
					{ class: "muted" },
					"Or make a link that signs you in: ",
					h("span", { class: "mono" }, "app console"),
					".",
				),
			),
		),
	);
	token.focus();
}

/** Draws what is around each screen. */
function frame() {
	const find = input({
		type: "search",
		id: "find",
		"aria-label": "Find",
		placeholder: "Find: any id, uid, event id or tag",
		maxlength: 256,
	});
	const search = (event) => {
		event.preventDefault();
		if (find.value.trim()) go(href(["find"], { q: find.value.trim() }));
	};
	const pause = h("button", { type: "button", onclick: () => live.pause(!live.paused) }, "Pause");
	live.addEventListener(
		"change",
		() => (pause.textContent = live.paused ? "Resume" : "Pause", pause.title = pauseTitle()),
	);
	pause.title = pauseTitle();
	const main = h("main", { id: "main", tabindex: -1 });
	fill(
		page,
		link("To the content", "#main", {
			class: "skip",
			onclick: (e) => (e.preventDefault(), main.focus()),
		}),
		h(
			"header",
			{ class: "top" },
			link("Postrider", "#/", { class: "brand" }),
			h("form", { class: "find", role: "search", onsubmit: search }, find),
			h(
				"div",
				{ class: "who" },
				h("span", [who?.name, who?.role].filter(Boolean).join(" · ")),
				pause,
				h("button", { type: "button", onclick: () => (who = null, signIn()) }, "Sign out"),
			),
		),
		h(
			"nav",
			{ class: "main", "aria-label": "Screens" },
			...NAVIGATION.map(([path, text]) => link(text, href([path]))),
		),
		main,
	);
}

function pauseTitle() {
	return live.paused
		? "Nothing is refreshed. Press to go on."
		: "Screens are refreshed every 2 s while this tab is visible. Press to pause.";
}

function leave() {
	shown?.abort();
	shown = null;
	shownPath = "";
}

/** Shows the screen of the present route. */
function draw() {
	const route = parse();
	const parts = route.parts.length ? route.parts : ["overview"];
	const path = parts.join("/");
	if (keeps && shown && path === shownPath) return;
	const moved = shownPath !== "" && path !== shownPath;
	leave();
	const controller = shown = new AbortController();
	[shownPath, keeps] = [path, false];
	for (const item of page.querySelectorAll("nav.main a")) {
		item.toggleAttribute("aria-current", false);
		if (item.getAttribute("href") === href([parts[0]])) item.setAttribute("aria-current", "page");
	}
	const main = /** @type {HTMLElement} */ (document.getElementById("main"));
	for (const [pattern, screen] of screens) {
		const params = match(pattern, parts);
		if (!params) continue;
		fill(main, screen(context(controller.signal, params, route.query)));
		if (moved) [main.scrollTop] = [0, scrollTo(0, 0), main.focus({ preventScroll: true })];
		return;
	}
	title("Not found");
	fill(main, h("h1", "There is no such screen"), h("p", link("To the overview", "#/")));
}

/** @param {AbortSignal} signal @param {Record<string, string>} params @param {URLSearchParams} query @returns {Context} */
function context(signal, params, query) {
	const keep = () => {
		keeps = true;
	};
	return { api, who: /** @type {Who} */ (who), signal, params, query, may, title, keep };
}

/** @param {string} text */
function title(text) {
	document.title = `${text} · Postrider`;
}

/** @type {Record<string, string[]>} */
const RIGHTS = { operate: ["admin", "operator"], administer: ["admin"], send: ["admin", "sender"] };

/** @type {Context["may"]} */
function may(act) {
	const roles = RIGHTS[act];
	return roles.includes(who?.role ?? "")
		? null
		: `Your token has the role ${who?.role}. This needs ${roles.join(" or ")}.`;
}
