/** What both pages have around their screens: the frame, the routes, and the context of a screen. */

import { path } from "./api.js";
import { fill, h } from "./dom.js";
import { live } from "./live.js";
import { action, link } from "./parts.js";
import { href, match, parse } from "./route.js";

const root = /** @type {HTMLElement} */ (document.getElementById("page"));

/** What the page is called. */
export const SITE = document.title;

/** @typedef {Record<string, (context: Context) => Node>} Screens the screens by the patterns of their routes */

/**
 * @param {object} options
 * @param {readonly (readonly [route: string, text: string])[]} options.navigation the first one is home
 * @param {Screens} options.screens
 * @param {(params: Record<string, string>) => Pick<Context, "api" | "who" | "appId" | "portal" | "may" | "to" | "end">} options.context
 */
export function framed({ navigation, screens, context }) {
	/** @type {AbortController | null} */
	let shown = null;
	let shownPath = "", keeps = false;
	const leave = () => {
		shown?.abort();
		[shown, shownPath] = [null, ""];
	};

	return {
		root,
		leave,

		/** Shows something instead of the frame. */
		instead: (...children) => {
			leave();
			fill(root, h("main", children));
		},

		/** Draws what is around each screen. */
		frame: (head, who, hidden) => {
			const main = h("main", { id: "main", tabindex: -1 });
			const onclick = (event) => (event.preventDefault(), main.focus());
			const pause = action("", () => live.pause(!live.paused));
			const mark = () => {
				pause.textContent = live.paused ? "Resume updates" : "Pause updates";
				pause.title = live.paused ? "Nothing is refreshed." : "Screens are refreshed while this tab is visible.";
			};
			live.addEventListener("change", mark);
			mark();
			const around = [
				link("To the content", "#main", { class: "skip", onclick }),
				h("header.top", head, h("div.who", pause, who)),
				h("nav.main", { "aria-label": "Screens" }, navigation.map(([name, text]) => link(text, href([name])))),
			];
			fill(root, !hidden && around, main);
		},

		/** Shows the screen of the present route. */
		draw: () => {
			const route = parse(), home = navigation[0][0];
			const parts = route.parts.length ? route.parts : [home], now = parts.join("/");
			if (keeps && shown && now === shownPath) return;
			const moved = shownPath !== "" && now !== shownPath;
			leave();
			const { signal } = shown = new AbortController();
			[shownPath, keeps] = [now, false];
			for (const item of root.querySelectorAll("nav.main a")) {
				item.ariaCurrent = item.getAttribute("href") === href([parts[0]]) ? "page" : null;
			}
			document.title = SITE;
			const main = /** @type {HTMLElement} */ (root.querySelector("main"));
			const pattern = Object.keys(screens).find((pattern) => match(pattern, parts));
			if (pattern) {
				const params = match(pattern, parts) ?? {}, own = context(params);
				const get = (path, query) => own.api.get(path, { signal, query });
				const keep = () => void (keeps = true);
				const app = path`app/${own.appId}`;
				fill(main, screens[pattern]({ ...own, app, get, signal, params, query: route.query, keep }));
			} else {
				fill(main, h("h1", "There is no such page"), h("p", link("To the first one", href([home]))));
			}
			if (!moved) return;
			scrollTo(0, 0);
			main.focus({ preventScroll: true });
		},
	};
}
