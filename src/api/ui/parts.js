/** What both pages are made of: words, notices, actions, forms and dialogs. Asks the API nothing by itself. */

import { ApiError, isAborted } from "./api.js";
import { fill, h, refocus } from "./dom.js";

export function state(word) {
	return h("span", { class: `state state-${word.replace(" ", "-")}` }, word);
}

export const count = (n) => n?.toLocaleString() ?? "–";

export const capped = (n) => n >= 1000 ? "1,000 or more" : count(n);

/** A noun, given in the plural, as it stands beside a number. */
export const word = (n, noun) => n === 1 ? noun.replace(/ies$/, "y").replace(/s$/, "") : noun;

export const plural = (n, noun) => `${count(n)} ${word(n, noun)}`;

export function duration(ms) {
	if (ms === null || ms === undefined) return "–";
	const seconds = Math.abs(ms) / 1000;
	if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
	if (seconds < 100) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
	if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
	return seconds < 172_800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86_400)} d`;
}

export function share(good, bad) {
	if (good + bad === 0) return "–";
	if (!good || !bad) return good ? "100 %" : "0 %";
	// 99.96 % must not read as 100 %.
	return `${Math.min(99.9, 100 * good / (good + bad)).toFixed(1)} %`;
}

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
	return iso ? h("time", { datetime: iso, title: `${local(iso)} (${iso})`, "data-ago": true }, distance(iso)) : "–";
}

export function distance(iso) {
	const ms = +new Date(iso) - Date.now();
	if (Math.abs(ms) < 1000) return "now";
	return ms > 0 ? `in ${duration(ms)}` : `${duration(ms)} ago`;
}

setInterval(() => {
	if (document.hidden) return;
	for (const node of document.querySelectorAll("time[data-ago]")) {
		node.textContent = distance(node.getAttribute("datetime"));
	}
}, 1000);

export const mono = (text) => text ? h("span.mono", text) : "–";

export const link = (text, href, attributes = {}) => h("a", { href, ...attributes }, text);

export const idLink = (id, href) => link(id, href, { class: "mono" });

export const goes = (text, href, attributes = {}) => link(text, href, { class: "button", ...attributes });

/** Names and their values; what is not there is left out. @param {...any} rows */
export function facts(...rows) {
	return h("dl.facts", rows.map((row) => row && h("div", h("dt", row[0]), h("dd", row[1]))));
}

/** Figures: names, values, and their units with the range of time. */
export function numbers(...rows) {
	return h("dl.numbers", rows.map(([name, value, note]) => h("div", h("dt", name), h("dd", value, h("small", note)))));
}

export const section = (title, ...children) => h("section", title && h("h2", title), ...children);
export const columns = (...children) => h("div.columns", ...children);
export const buttons = (...children) => h("div.buttons", ...children);
export const empty = (...children) => h("div.empty", ...children);
export const muted = (...children) => h("p.muted", ...children);
export const hint = (...children) => h("p.hint", ...children);
export const note = (...children) => h("div.note", ...children);

/** @type {HTMLElement | undefined} */
let status;

/** Tells in a line at the foot of the page what was done. */
export function say(text) {
	status ??= document.body.appendChild(h("div.status", { role: "status" }));
	const line = h("p", text);
	fill(status, line);
	setTimeout(() => line.remove(), 6000);
}

export function failure(error, again) {
	return h(
		"div.failure",
		{ role: "alert" },
		h("p", error.message ?? String(error)),
		error instanceof ApiError && error.requestId && muted("Request ", mono(error.requestId)),
		again && action("Try again", again),
	);
}

/** Is seen only if it is there for a while. */
export const loading = () => h("p.waiting", { role: "status" }, "Loading…");

/** A button that says if what it does failed, and cannot be pressed meanwhile. @param {string} label @param {Run} run */
export function action(label, run, { reason, kind, about } = /** @type {Action} */ ({})) {
	const begin = typeof run === "function" ? run : () => confirm(label, run);
	const onclick = async () => {
		if (reason) return say(reason);
		if (button.ariaBusy === "true") return;
		button.ariaBusy = "true";
		try {
			await begin();
		} catch (error) {
			if (!isAborted(error)) show("Error", failure(error));
		} finally {
			button.ariaBusy = null;
		}
	};
	const button = h("button", {
		type: "button",
		class: kind,
		"aria-disabled": reason && "true",
		title: reason,
		"aria-description": [about, reason].filter(Boolean).join(". ") || null,
		onclick,
	}, label);
	return button;
}

/** @param {string | (() => string)} text */
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

let controls = 0;

/** A control with its label and a hint. @param {Children} [text] */
export function field(label, control, text) {
	const id = control.id ||= `f${++controls}`;
	if (text) control.setAttribute("aria-describedby", `${id}-hint`);
	return h(
		control.type === "checkbox" ? "div.field.check" : "div.field",
		h("label", { for: id }, label),
		control,
		text && h("p.hint", { id: `${id}-hint` }, text),
	);
}

export function input(attributes = {}) {
	return h("input", { type: "text", autocomplete: "off", spellcheck: "false", ...attributes });
}

/** The form that finds things. @param {(text: string) => unknown} run */
export function findForm(text, run) {
	const find = input({
		type: "search",
		id: "find",
		"aria-label": "Find",
		placeholder: `Find: ${text}`,
		maxlength: 256,
	});
	const onsubmit = (event) => {
		event.preventDefault();
		if (find.value.trim()) run(find.value.trim());
	};
	return h("form.find", { role: "search", onsubmit }, find);
}

export function area(attributes = {}) {
	return h("textarea.mono", { spellcheck: "false", ...attributes });
}

/** @param {Options} options */
export function select(options, value = "") {
	const pairs = options.map((option) => typeof option === "string" ? [option, option] : option);
	const box = h("select", pairs.map(([value, text]) => h("option", { value }, text)));
	if (value) box.value = value;
	return box;
}

const words = (text) => text.split(/[\s,]+/).filter(Boolean);

/** Fields with the values of an object; `read` makes a body of them, in which what is empty is null. @param {...(Field | false)} specs */
export function fieldsOf(values, ...specs) {
	/** @type {any} */
	const controls = {};
	const readers = {};
	const nodes = specs.map((spec) => {
		if (!spec) return null;
		const [name, label, text, { type = "text", options, ...more } = {}] = spec;
		const value = values?.[name] ?? more.value ?? "";
		/** @type {any} */
		const control = options ? select(options, value) : type === "area" ? area({ ...more, value }) : input({
			...more,
			type: type === "words" ? "text" : type,
			checked: value === true,
			value: type === "datetime-local" ? toLocalInput(value) : [value].flat().join(", "),
		});
		controls[name] = control;
		readers[name] = () => {
			if (type === "checkbox") return control.checked;
			const text = control.value.trim();
			if (text === "") return null;
			if (type === "words") return words(text);
			return type === "number" ? Number(text) : type === "datetime-local" ? fromLocalInput(text) : text;
		};
		return field(label, control, text);
	});
	/** @type {() => Record<string, any>} */
	const read = () => Object.fromEntries(Object.entries(readers).map(([name, read]) => [name, read()]));
	return { nodes, controls, read };
}

/** A form that shows why `run` failed. @param {Form} options @param {...Children} children */
export function form({ button, kind = "main", run, reason, cancel }, ...children) {
	const problem = h("div");
	const submit = h("button", { type: "submit", class: kind, disabled: !!reason, title: reason }, button);
	const onsubmit = async (event) => {
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
	const foot = [problem, reason && hint(reason), buttons(submit, cancel && action("Close", cancel))];
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
}

export function show(title, ...children) {
	dialog(title, (close) => [...children, buttons(action("Close", close))]);
}

/** Asks in a dialog, which stays open until `run` has succeeded. @param {Form & {title: string, typed?: string}} options @param {...Children} children */
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

/** @param {Sure} sure */
function confirm(button, sure) {
	const { title, text, typed, run, done, then } = sure;
	const act = async () => {
		await run();
		say(done);
		await then?.();
	};
	ask({ title, button, kind: "danger", typed, run: act }, text && h("p", text));
}

export function toLocalInput(iso) {
	const at = new Date(iso);
	return isNaN(+at) ? "" : new Date(+at - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

export const fromLocalInput = (value) => value ? new Date(value).toISOString() : "";

/** An instant so many hours before another, or before now. */
export function hoursAgo(hours, iso = Date.now()) {
	return new Date(+new Date(iso) - hours * 3_600_000).toISOString();
}
