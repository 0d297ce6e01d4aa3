/** The keyboard of both pages. */

import { focus, h } from "./dom.js";
import { say, show } from "./parts.js";

export function keys() {
	/** @type {Record<string, [() => void, string]>} */
	const acts = {
		"/": [() => /** @type {any} */ (document.getElementById("find"))?.select(), "find"],
		j: [() => row(1), "next row"],
		k: [() => row(-1), "previous row"],
		r: [again, "send again"],
		"?": [() => help(acts), "this help"],
	};
	addEventListener("keydown", (event) => {
		const typing = /** @type {Element} */ (event.target).closest?.("input, select, textarea, dialog");
		if (typing || event.ctrlKey || event.metaKey || event.altKey || !acts[event.key]) return;
		event.preventDefault();
		acts[event.key][0]();
	});
}

/** Moves the focus by rows, in the table where it is, else in the first. */
function row(step) {
	const here = document.activeElement?.closest("main tbody tr");
	const all = [...(here?.parentElement?.children ?? document.querySelectorAll("main .list tbody tr"))];
	const next = here ? all[all.indexOf(here) + step] : all[0];
	focus(next?.querySelector("a[href], button, summary"));
	next?.scrollIntoView({ block: "nearest" });
}

/** Presses *Send again* of the row with the focus, else the only one on the screen. */
function again() {
	const place = document.activeElement?.closest("main tr") ?? document;
	/** @type {any[]} */
	const buttons = [...place.querySelectorAll("main button")];
	const found = buttons.filter((button) => button.textContent === "Send again");
	if (found.length === 1) found[0].click();
	else say(found.length ? "Choose a row with j and k first." : "There is nothing here to send again.");
}

function help(acts) {
	const rows = Object.entries(acts).map(([key, [, text]]) => h("tr", h("th", h("kbd", key)), h("td", text)));
	show("Keys", h("table", h("tbody", rows)));
}
