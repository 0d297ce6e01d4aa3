/** The keyboard of both pages. */

import { h } from "./dom.js";
import { say, show } from "./parts.js";

const HELP = ["/ find", "j next row", "k previous row", "Enter open the row", "r send again", "? this help"];

/** Listens for the keys. @param {() => HTMLInputElement | null} find the field that `/` goes to */
export function keys(find) {
	/** @type {Record<string, () => void>} */
	const acts = { "/": () => find()?.select(), j: () => row(1), k: () => row(-1), r: again, "?": help };
	addEventListener("keydown", (event) => {
		const typing = /** @type {Element} */ (event.target).closest?.("input, select, textarea, dialog");
		if (typing || event.ctrlKey || event.metaKey || event.altKey || !acts[event.key]) return;
		event.preventDefault();
		acts[event.key]();
	});
}

/** Moves the focus by rows, in the table where it is, else in the first. */
function row(step) {
	const here = document.activeElement?.closest("main tbody tr");
	const all = [...(here?.parentElement?.children ?? document.querySelectorAll("main .list tbody tr"))];
	const next = here ? all[all.indexOf(here) + step] : all[0];
	/** @type {HTMLElement | null | undefined} */ (next?.querySelector("a[href], button, summary"))?.focus();
	next?.scrollIntoView({ block: "nearest" });
}

/** Presses *Send again* of the row with the focus, else the only one on the screen. */
function again() {
	const place = document.activeElement?.closest("main tr") ?? document;
	const found = [...place.querySelectorAll("main button")].filter((button) => button.textContent === "Send again");
	if (found.length === 1) /** @type {HTMLElement} */ (found[0]).click();
	else say(found.length ? "Choose a row with j and k first." : "There is nothing here to send again.");
}

function help() {
	const rows = HELP.map((text) => text.split(/ (.*)/));
	show("Keys", h("table", h("tbody", rows.map(([key, text]) => h("tr", h("th", h("kbd", key)), h("td", text))))));
}
