/** What both pages are made of: words, notices, actions, forms and dialogs. Asks the API nothing by itself. */

import { ApiError, isAborted, newest } from "./api.js";
import { fill, h, refill, refocus } from "./dom.js";
import { sleep } from "./live.js";

/* ---- words and figures ---- */

/** A state as a word with a colour and a mark. */
export function state(word) {
	return h("span", { class: `state state-${word.replace(" ", "-")}` }, word);
}

export function count(n) {
	return n?.toLocaleString() ?? "–";
}

/** A count with its noun, which is given in the plural. */
export function plural(n, noun) {
	return `${count(n)} ${n === 1 ? noun.replace(/ies$/, "y").replace(/s$/, "") : noun}`;
}

/** A duration in words: 430 ms, 12 s, 4 min, 3 h, 2 d. */
export function duration(ms) {
	if (ms === null || ms === undefined) return "–";
	const seconds = Math.abs(ms) / 1000;
	if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
	if (seconds < 10) return `${seconds.toFixed(1)} s`;
	if (seconds < 100) return `${Math.round(seconds)} s`;
	if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
	return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} d`;
}

/** The share of what succeeded; a dash if there was nothing. */
export function share(good, bad) {
	if (good + bad === 0) return "–";
	if (!good || !bad) return good ? "100 %" : "0 %";
	// 99.96 % must not read as 100 %.
	return `${Math.min(99.9, 100 * good / (good + bad)).toFixed(1)} %`;
}

/** An instant in local time, in UTC as its title. */
export function when(iso) {
	return iso ? h("time", { datetime: iso, title: iso }, local(iso)) : "–";
}

export function local(iso) {
	const at = new Date(iso);
	const year = at.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
	const day = at.toLocaleDateString(undefined, { day: "numeric", month: "short", year });
	return `${day}, ${at.toLocaleTimeString(undefined, { hourCycle: "h23" })}`;
}

/** The distance of an instant to now, kept up to date: "4 min ago", "in 4 min". */
export function ago(iso) {
	if (!iso) return "–";
	return h("time", { datetime: iso, title: `${local(iso)} (${iso})`, "data-ago": true }, distance(iso));
}

export function distance(iso) {
	const ms = +new Date(iso) - Date.now();
	if (Math.abs(ms) < 1000) return "now";
	return ms > 0 ? `in ${duration(ms)}` : `${duration(ms)} ago`;
}

setInterval(() => {
	if (document.hidden) return;
	for (const node of document.querySelectorAll("time[data-ago]")) {
		node.textContent = distance(node.getAttribute("datetime") ?? "");
	}
}, 1000);

/** An id or address, which may be broken anywhere. */
export function mono(text) {
	return text ? h("span.mono", text) : "–";
}

export function link(text, href, attributes) {
	return h("a", { href, ...attributes }, text);
}

/** Names and their values. @param {...([string, Children] | false | "" | null | undefined)} rows */
export function facts(...rows) {
	return h("dl.facts", rows.map((row) => row && h("div", h("dt", row[0]), h("dd", row[1]))));
}

/** Figures with their units and range of time. @param {...[string, Children, Children?]} rows */
export function numbers(...rows) {
	return h("dl.numbers", rows.map(([name, value, note]) => h("div", h("dt", name), h("dd", value, h("small", note)))));
}

/** A part of a screen below a heading. */
export function section(title, ...children) {
	return h("section", title && h("h2", title), ...children);
}

export function columns(...children) {
	return h("div.columns", ...children);
}

export function buttons(...children) {
	return h("div.buttons", ...children);
}

/** What an empty list says: what would fill it, and how. */
export function empty(...children) {
	return h("div.empty", ...children);
}

export function muted(...children) {
	return h("p.muted", ...children);
}

export function note(...children) {
	return h("div.note", ...children);
}

/* ---- notices ---- */

/** @type {HTMLElement | undefined} */
let status;

/** Tells in a line at the foot of the page what was done. */
export function say(text) {
	status ??= document.body.appendChild(h("div.status", { role: "status" }));
	const line = h("p", text);
	fill(status, line);
	setTimeout(() => line.remove(), 6000);
}

/** An error as the server says it. */
export function failure(error, again) {
	return h(
		"div.failure",
		{ role: "alert" },
		h("p", error.message ?? String(error)),
		error instanceof ApiError && error.requestId && muted("Request ", mono(error.requestId)),
		again && action("Try again", again),
	);
}

/**
 * A place for what `ask` results in, and until then for how long it waits, or why it failed, with a button to try
 * again. `draw` also gets a function that asks and draws once more, and a signal that ends what is drawn.
 *
 * @template T
 * @param {AbortSignal} signal
 * @param {() => Promise<T>} ask
 * @param {(result: T, again: () => Promise<void>, signal: AbortSignal) => Children} draw
 */
export function load(signal, ask, draw, place = h("div")) {
	const next = newest(signal);
	const again = async () => {
		const waited = new AbortController();
		if (!place.hasChildNodes()) tellWaiting(place, AbortSignal.any([signal, waited.signal]));
		/** @type {Children} */
		let drawn;
		try {
			const result = await ask();
			if (!signal.aborted) drawn = draw(result, again, next());
		} catch (error) {
			if (!isAborted(error)) drawn = failure(error, again);
		}
		waited.abort();
		if (signal.aborted) return;
		refill(place, drawn);
	};
	again();
	return place;
}

/** Says that it loads, and after a while for how long, until `done` ends. */
export async function tellWaiting(place, done) {
	await sleep(done, 0.2);
	if (done.aborted) return;
	const line = h("p.waiting", { role: "status" }, "Loading…");
	fill(place, line);
	await sleep(done, 3);
	for (let seconds = 3; !done.aborted; seconds++) {
		line.textContent = `Still waiting for the server (${seconds} s)…`;
		await sleep(done, 1);
	}
}

/* ---- actions ---- */

/**
 * A button that does something and says if that failed. While it runs it cannot be pressed again.
 *
 * @param {string} label
 * @param {() => unknown} run
 * @param {{reason?: string | null, kind?: string, about?: string}} [options] `reason`: why it cannot be pressed;
 *   `about`: what it is about, where several buttons have the same label
 */
export function action(label, run, { reason, kind, about } = {}) {
	const button = h("button", {
		type: "button",
		class: kind,
		"aria-disabled": reason ? "true" : null,
		title: reason,
		"aria-description": [about, reason].filter(Boolean).join(". ") || null,
		onclick: async () => {
			if (reason) return say(reason);
			if (button.ariaBusy === "true") return;
			button.ariaBusy = "true";
			try {
				await run();
			} catch (error) {
				if (!isAborted(error)) show("Error", failure(error));
			} finally {
				button.ariaBusy = null;
			}
		},
	}, label);
	return button;
}

/** Copies a text as it is. @param {string | (() => string)} text @param {string} about @param {string} [label] */
export function copy(text, about, label = "Copy") {
	return action(label, async () => {
		await toClipboard(typeof text === "function" ? text() : text);
		say(`${about} copied`);
	}, { about });
}

async function toClipboard(text) {
	try {
		await navigator.clipboard.writeText(text);
	} catch {
		// Without HTTPS there is no navigator.clipboard.
		const area = h("textarea.hidden", { value: text });
		(document.querySelector("dialog[open]") ?? document.body).append(area);
		area.select();
		const done = document.execCommand("copy");
		area.remove();
		if (!done) throw new Error("The browser does not let this page copy. Select the text instead.");
	}
}

/* ---- forms ---- */

let fields = 0;

/**
 * A control with its label and a hint.
 *
 * @param {string} label
 * @param {HTMLInputElement | HTMLSelectElement | HTMLTextAreaElement} control
 * @param {Children} [hint]
 */
export function field(label, control, hint) {
	const id = control.id ||= `f${++fields}`;
	if (hint) control.setAttribute("aria-describedby", `${id}-hint`);
	return h(
		control.type === "checkbox" ? "div.field.check" : "div.field",
		h("label", { for: id }, label),
		control,
		hint && h("p.hint", { id: `${id}-hint` }, hint),
	);
}

export function input(attributes) {
	return h("input", { type: "text", autocomplete: "off", spellcheck: "false", ...attributes });
}

export function area(attributes) {
	return h("textarea.mono", { spellcheck: "false", ...attributes });
}

/** @param {readonly (string | readonly [value: string, text: string])[]} options @param {string} [value] */
export function select(options, value = "") {
	const pairs = options.map((option) => typeof option === "string" ? [option, option] : option);
	const box = h("select", pairs.map(([value, text]) => h("option", { value }, text)));
	box.value = value;
	return box;
}

/** The words of a text that are separated by commas or spaces; null if there are none. */
export function words(text) {
	const found = text.split(/[\s,]+/).filter(Boolean);
	return found.length ? found : null;
}

/**
 * A form. Its button runs `run`; a refusal is shown in it, as the server says it.
 *
 * @param {{button: string, kind?: string, run: () => unknown, reason?: string | null, cancel?: () => void}} options
 * @param {...Children} children
 */
export function form({ button, kind = "main", run, reason, cancel }, ...children) {
	const problem = h("div");
	const submit = h("button", { type: "submit", class: kind, disabled: !!reason, title: reason }, button);
	const onsubmit = async (/** @type {Event} */ event) => {
		event.preventDefault();
		if (submit.disabled) return;
		submit.disabled = true;
		fill(problem);
		try {
			await run();
		} catch (error) {
			if (!isAborted(error)) fill(problem, failure(error));
		} finally {
			submit.disabled = false;
		}
	};
	const foot = [problem, reason && h("p.hint", reason), buttons(submit, cancel && action("Close", cancel))];
	return h("form.form", { onsubmit }, ...children, foot);
}

/** @param {string} title @param {(close: () => void) => Children} draw */
function dialog(title, draw) {
	const opener = document.activeElement;
	const box = h("dialog.dialog", { "aria-label": title });
	const close = () => box.close();
	fill(box, h("h2", title), draw(close));
	box.addEventListener("close", () => (box.remove(), refocus(opener)));
	addEventListener("hashchange", close, { once: true });
	document.body.append(box);
	box.showModal();
	return box;
}

/** Shows something in a dialog until it is closed. */
export function show(title, ...children) {
	dialog(title, (close) => [...children, buttons(action("Close", close))]);
}

/**
 * Asks in a dialog before something is done. `run` does it; the dialog stays open until it has succeeded. With `typed`,
 * that text must be typed first.
 *
 * @param {{title: string, button: string, kind?: string, typed?: string, run: () => unknown}} options
 * @param {...Children} children
 */
export function ask({ title, button, kind, typed, run }, ...children) {
	const name = input({ required: true });
	dialog(title, (close) => {
		const act = async () => {
			if (typed && name.value.trim() !== typed) throw new Error(`Type ${typed} to confirm.`);
			await run();
			close();
		};
		const confirm = typed && field(`Type ${typed} to confirm`, name);
		return form({ button, kind, run: act, cancel: close }, ...children, confirm);
	});
}

/**
 * What a button does that asks before something is taken away.
 *
 * @param {string} button
 * @param {{title: string, text?: string, typed?: string, run: () => unknown, done: string, then?: () => unknown}} options
 */
export function confirming(button, { title, text, typed, run, done, then }) {
	const act = async () => {
		await run();
		say(done);
		await then?.();
	};
	return () => ask({ title, button, kind: "danger", typed, run: act }, text && h("p", text));
}

/* ---- instants in forms ---- */

export function instant(attributes, iso) {
	return input({ type: "datetime-local", value: toLocalInput(iso ?? ""), ...attributes });
}

/** A value for an `<input type=datetime-local>`, in local time. */
export function toLocalInput(iso) {
	const at = new Date(iso);
	return isNaN(+at) ? "" : new Date(+at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** The instant of an `<input type=datetime-local>`. */
export function fromLocalInput(value) {
	return value ? new Date(value).toISOString() : "";
}

/** An instant so many hours before another, or before now. */
export function hoursAgo(hours, iso) {
	return new Date((iso ? +new Date(iso) : Date.now()) - hours * 3_600_000).toISOString();
}
