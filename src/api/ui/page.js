/** What both pages have around their screens: the frame, the routes, and the context of a screen. */

import { path } from "./api.js";
import { nameOf } from "./attempts.js";
import { fill, focus, h } from "./dom.js";
import { live } from "./live.js";
import { action, link } from "./parts.js";
import { href, match, parse } from "./route.js";

/** @type {any} */
export const root = document.getElementById("page");

/** What the page is called. */
export const SITE = document.title;

/**
 * @param {Record<string, string>} navigation texts by routes, the first one is home
 * @param {Record<string, View>} screens by the patterns of their routes
 * @param {(params: Record<string, string>) => Pick<Context, "api" | "who" | "appId" | "portal" | "may" | "to" | "end">} context
 */
export function framed(navigation, screens, context) {
	/** @type {AbortController | null} */
	let shown = null;
	let shownPath = "", keeps = false;
	const leave = () => {
		shown?.abort();
		[shown, shownPath] = [null, ""];
	};

	const full = (params, query, signal) => {
		const own = context(params), { api, may, portal, appId } = own;
		const act = (right, label, run, options = {}) => {
			const reason = may(right);
			// The console says why something is not allowed, the portal leaves it out.
			return portal && reason ? null : action(label, run, { ...options, reason: reason ?? options.reason });
		};
		return {
			...own,
			act,
			app: path`app/${appId}`,
			get: (path, query) => api.get(path, { signal, query }),
			keep: () => void (keeps = true),
			nameOf: (row) => nameOf(portal, row),
			params,
			query,
			redraw: () => (leave(), draw()),
			signal,
		};
	};

	/** Shows the screen of the present route. */
	const draw = () => {
		const route = parse(), home = Object.keys(navigation)[0];
		const parts = route.parts.length ? route.parts : [home], now = parts.join("/");
		if (keeps && shown && now === shownPath) return;
		const moved = shownPath !== "" && now !== shownPath;
		leave();
		shown = new AbortController();
		[shownPath, keeps] = [now, false];
		for (const item of root.querySelectorAll("nav.main a")) {
			item.ariaCurrent = item.getAttribute("href") === href([parts[0]]) ? "page" : null;
		}
		document.title = SITE;
		const main = root.querySelector("main");
		const pattern = Object.keys(screens).find((pattern) => match(pattern, parts));
		if (pattern) fill(main, screens[pattern](full(match(pattern, parts) ?? {}, route.query, shown.signal)));
		else fill(main, h("h1", "There is no such page"), h("p", link("To the first one", href([home]))));
		if (!moved) return;
		scrollTo(0, 0);
		focus(main);
	};

	return {
		draw,
		leave,

		/** Shows something instead of the frame. */
		instead: (...children) => {
			leave();
			fill(root, h("main", children));
		},

		frame: (head, who, hidden) => {
			const main = h("main", { id: "main", tabindex: -1 });
			const onclick = (event) => (event.preventDefault(), main.focus());
			const label = () => live.paused ? "Resume updates" : "Pause updates";
			const pause = action(label(), () => {
				live.paused = !live.paused;
				pause.textContent = label();
			});
			const screens = Object.entries(navigation).map(([name, text]) => link(text, href([name])));
			const top = [
				link("To the content", "#main", { class: "skip", onclick }),
				h("header.top", head, h("div.who", pause, who)),
				h("nav.main", { "aria-label": "Screens" }, screens),
			];
			fill(root, !hidden && top, main);
		},
	};
}
