/**
 * What both pages are made of: states, instants, actions, forms, dialogs, notices, and the waiting for an
 * answer. It asks the API nothing by itself.
 *
 * @module
 */

import { ApiError, isAborted } from "./api.js";
import { fill, h, nodes } from "./dom.js";
import { sleep } from "./live.js";

/** @typedef {import("./dom.js").Children} Children */

/* ---- words and figures ---- */

/** A state as a word with a colour and a mark. @param {string} word */
export function state(word) {
	return h("span", { class: `state state-${word.replaceAll(" ", "-")}` }, word);
}

/** @param {number | null | undefined} n */
export function count(n) {
	return n === null || n === undefined ? "–" : n.toLocaleString();
}

/** A duration in words: 430 ms, 12 s, 4 min, 3 h, 2 d. @param {number | null | undefined} ms */
export function duration(ms) {
	if (ms === null || ms === undefined) return "–";
	const seconds = Math.abs(ms) / 1000;
	if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
	if (seconds < 10) return `${seconds.toFixed(1)} s`;
	if (seconds < 100) return `${Math.round(seconds)} s`;
	if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
	return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} d`;
}

/** The share of what succeeded; a dash if there was nothing. @param {number} good @param {number} bad */
export function share(good, bad) {
	if (good + bad === 0) return "–";
	const percent = 100 * good / (good + bad);
	// 99.96 % must not read as 100 %.
	return `${(bad ? Math.min(99.9, percent) : percent).toFixed(percent === 100 || percent === 0 ? 0 : 1)} %`;
}

/** An instant in local time, in UTC as its title. @param {string | null | undefined} iso */
export function when(iso) {
	if (!iso) return "–";
	return h("time", { datetime: iso, title: iso, class: "when" }, local(iso));
}

/** An instant as a text in local time. @param {string} iso */
export function local(iso) {
	const at = new Date(iso), now = new Date();
	const day = at.toLocaleDateString(undefined, {
		day: "numeric",
		month: "short",
		year: at.getFullYear() === now.getFullYear() ? undefined : "numeric",
	});
	return `${day}, ${at.toLocaleTimeString(undefined, { hourCycle: "h23" })}`;
}

/** The distance of an instant to now, kept up to date: "4 min ago", "in 4 min". @param {string} iso */
export function ago(iso) {
	return h("time", { datetime: iso, title: `${local(iso)} (${iso})`, "data-ago": true }, distance(iso));
}

/** @param {string} iso */
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

/** A long id or address that may be broken anywhere and is copied whole. @param {string | null | undefined} text */
export function mono(text) {
	return text ? h("span", { class: "mono" }, text) : "–";
}

/** @param {Children} text @param {string} href @param {import("./dom.js").Attributes} [attributes] */
export function link(text, href, attributes) {
	return h("a", { href, ...attributes }, text);
}

/** Names and their values. @param {...([string, Children] | false | "" | null | undefined)} rows */
export function facts(...rows) {
	return h(
		"dl",
		{ class: "facts" },
		...rows.flatMap((row) => row ? [h("div", h("dt", row[0]), h("dd", row[1]))] : []),
	);
}

/** Figures with their units and range of time. @param {...[string, Children, Children?]} rows */
export function numbers(...rows) {
	const one = (/** @type {[string, Children, Children?]} */ [name, value, note]) =>
		h("div", h("dt", name), h("dd", value, note && h("small", note)));
	return h("dl", { class: "numbers" }, ...rows.map(one));
}

/** A part of a screen below a heading. @param {Children} title @param {...Children} children */
export function section(title, ...children) {
	return h("section", h("h2", title), ...children);
}

/** What an empty list says: what would fill it, and how. @param {...Children} children */
export function empty(...children) {
	return h("div", { class: "empty" }, ...children);
}

/* ---- notices ---- */

/** @type {HTMLElement | undefined} */
let status;

/** Tells in a line at the foot of the page what was done. @param {string} text */
export function say(text) {
	status ??= document.body.appendChild(h("div", { class: "status", role: "status" }));
	const line = h("p", text);
	fill(status, line);
	setTimeout(() => line.remove(), 6000);
}

/** An error as the server says it. @param {unknown} error @param {() => void} [again] */
export function failure(error, again) {
	const message = error instanceof Error ? error.message : String(error);
	const id = error instanceof ApiError && error.requestId;
	return h(
		"div",
		{ class: "failure", role: "alert" },
		h("p", message),
		id && h("p", { class: "muted" }, "Request ", mono(id)),
		again && h("button", { type: "button", onclick: again }, "Try again"),
	);
}

/**
 * Fills `place` with what `ask` results in. Until then it says that it loads, and after a while for how long;
 * if it fails, why, with a button to try again.
 *
 * @template T
 * @param {Element} place
 * @param {AbortSignal} signal
 * @param {() => Promise<T>} ask
 * @param {(result: T) => Children} draw
 */
export async function load(place, signal, ask, draw) {
	const waited = new AbortController();
	const done = AbortSignal.any([signal, waited.signal]);
	place.setAttribute("aria-busy", "true");
	tellWaiting(place, done);
	try {
		const result = await ask();
		waited.abort();
		if (!signal.aborted) fill(place, draw(result));
	} catch (error) {
		waited.abort();
		if (isAborted(error) || signal.aborted) return;
		fill(place, failure(error, () => load(place, signal, ask, draw)));
	} finally {
		waited.abort();
		place.removeAttribute("aria-busy");
	}
}

/** Says that it loads, and after a while for how long, until `done` ends. @param {Element} place @param {AbortSignal} done */
export async function tellWaiting(place, done) {
	await sleep(done, 0.2);
	if (done.aborted) return;
	const line = h("p", { class: "waiting", role: "status" }, "Loading…");
	fill(place, line);
	await sleep(done, 3);
	const began = Date.now() - 3000;
	while (!done.aborted) {
		line.textContent = `Still waiting for the server (${Math.round((Date.now() - began) / 1000)} s)…`;
		await sleep(done, 1);
	}
}

/* ---- actions ---- */

/**
 * A button that does something and says if that failed. While it runs it cannot be pressed again.
 *
 * @param {string} label
 * @param {() => unknown} run
 * @param {{reason?: string | null, kind?: "main" | "danger" | "", about?: string}} [options] `reason`: why it
 *   cannot be pressed; `about`: what it is about, where several buttons have the same label
 */
export function action(label, run, { reason, kind = "", about } = {}) {
	const button = h("button", {
		type: "button",
		class: kind,
		"aria-disabled": reason ? "true" : null,
		title: reason ?? null,
		"aria-description": [about, reason].filter(Boolean).join(". ") || null,
		onclick: () => reason ? say(reason) : busy(button, run),
	}, label);
	return button;
}

/** @param {HTMLButtonElement} button @param {() => unknown} run */
async function busy(button, run) {
	if (button.ariaBusy === "true") return;
	button.ariaBusy = "true";
	try {
		await run();
	} catch (error) {
		if (!isAborted(error)) tell(error);
	} finally {
		button.ariaBusy = null;
	}
}

/** Shows an error that belongs to no place on the screen, until it is closed. @param {unknown} error */
export function tell(error) {
	const box = h("dialog", { class: "dialog", "aria-label": "Error" });
	const close = h("button", { type: "button", onclick: () => box.close(), autofocus: true }, "Close");
	box.append(failure(error), h("div", { class: "buttons" }, close));
	open(box);
}

/** @param {HTMLDialogElement} box */
function open(box) {
	box.addEventListener("close", () => box.remove());
	addEventListener("hashchange", () => box.close(), { once: true });
	document.body.append(box);
	box.showModal();
}

/** Copies a text as it is. @param {string | (() => string)} text @param {string} [about] @param {string} [label] */
export function copy(text, about, label = "Copy") {
	return action(label, async () => {
		if (!await toClipboard(typeof text === "function" ? text() : text)) {
			throw new Error("The browser does not let this page copy. Select the text instead.");
		}
		say(`${about ?? "Text"} copied`);
	}, { about });
}

/** @param {string} text */
async function toClipboard(text) {
	try {
		await navigator.clipboard.writeText(text);
		return true;
	} catch {
		// Without HTTPS there is no navigator.clipboard.
		const area = h("textarea", { class: "hidden" });
		area.value = text;
		(document.querySelector("dialog[open]") ?? document.body).append(area);
		area.select();
		const done = document.execCommand("copy");
		area.remove();
		return done;
	}
}

/* ---- forms ---- */

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
		"div",
		{ class: control.type === "checkbox" ? "field check" : "field" },
		h("label", { for: id }, label),
		control,
		hint && h("p", { class: "hint", id: `${id}-hint` }, hint),
	);
}
let fields = 0;

/** @param {import("./dom.js").Attributes} [attributes] */
export function input(attributes) {
	return h("input", { type: "text", autocomplete: "off", spellcheck: "false", ...attributes });
}

/** @param {readonly (string | [value: string, text: string])[]} options @param {string} [value] */
export function select(options, value = "") {
	const box = h(
		"select",
		...options.map((o) => typeof o === "string" ? [o, o] : o).map(([v, t]) => h("option", { value: v }, t)),
	);
	box.value = value;
	return box;
}

/**
 * A form. Its button runs `run`; a refusal is shown in it, as the server says it.
 *
 * @param {{button: string, kind?: "main" | "danger", run: () => unknown, reason?: string | null, cancel?: () => void}} options
 * @param {...Children} children
 */
export function form({ button, kind = "main", run, reason, cancel }, ...children) {
	const problem = h("div");
	const submit = h(
		"button",
		{ type: "submit", class: kind, disabled: !!reason, title: reason ?? null },
		button,
	);
	const send = async (event) => {
		event.preventDefault();
		if (submit.disabled) return;
		submit.disabled = true;
		fill(problem);
		try {
			await run();
		} catch (error) {
			if (!isAborted(error)) fill(problem, failure(error));
		} finally {
			submit.disabled = !!reason;
		}
	};
	return h(
		"form",
		{ class: "form", onsubmit: send },
		...children,
		problem,
		reason && h("p", { class: "hint" }, reason),
		h(
			"div",
			{ class: "buttons" },
			submit,
			cancel && h("button", { type: "button", onclick: cancel }, "Close"),
		),
	);
}

/**
 * Asks in a dialog before something is done. `run` does it; the dialog stays open until it has succeeded. With
 * `typed`, that text must be typed first. Resolves to whether it was done.
 *
 * @param {{title: string, button: string, kind?: "main" | "danger", typed?: string, run: () => unknown}} options
 * @param {...Children} children
 * @returns {Promise<boolean>}
 */
export function ask({ title, button, kind, typed, run }, ...children) {
	return new Promise((done) => {
		let did = false;
		const box = h("dialog", { class: "dialog", "aria-label": title });
		const name = input({ required: true });
		const act = async () => {
			if (typed !== undefined && name.value.trim() !== typed) throw new Error(`Type ${typed} to confirm.`);
			await run();
			did = true;
			box.close();
		};
		box.append(
			h("h2", title),
			form(
				{ button, kind, run: act, cancel: () => box.close() },
				...children,
				typed !== undefined && field(`Type ${typed} to confirm`, name),
			),
		);
		box.addEventListener("close", () => done(did));
		open(box);
	});
}

/** Shows something in a dialog until it is closed. @param {string} title @param {...Children} children */
export function show(title, ...children) {
	const box = h("dialog", { class: "dialog", "aria-label": title });
	const close = h("button", { type: "button", onclick: () => box.close() }, "Close");
	box.append(
		h("h2", title),
		...nodes(children),
		h("div", { class: "buttons" }, close),
	);
	open(box);
}

/** A value for an `<input type=datetime-local>`, in local time. @param {string | null} iso */
export function toLocalInput(iso) {
	if (!iso || isNaN(+new Date(iso))) return "";
	const at = new Date(iso);
	return new Date(+at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

/** The instant of an `<input type=datetime-local>`. @param {string} value */
export function fromLocalInput(value) {
	return value ? new Date(value).toISOString() : "";
}

/** An instant so many hours before another, or before now. @param {number} hours @param {string} [iso] */
export function hoursAgo(hours, iso) {
	return new Date((iso ? +new Date(iso) : Date.now()) - hours * 3_600_000).toISOString();
}
