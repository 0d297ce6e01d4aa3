/**
 * Shows JSON without reading it into numbers and strings: everything works on the text, so that 1.10 stays
 * 1.10, large integers stay exact and escapes stay as they were written. Never parse and stringify what is
 * shown or copied.
 *
 * @module
 */

import { h } from "./dom.js";

/** @typedef {{kind: "space" | "punctuation" | "string" | "number" | "word" | "other", text: string}} Token */

const TOKEN = /([\s]+)|([{}[\],:])|("(?:[^"\\]|\\.)*"?)|(-?\d[\d.eE+-]*)|(\w+)|([^])/g;
/** @type {Token["kind"][]} */
const KINDS = ["space", "punctuation", "string", "number", "word", "other"];

/** Cuts a text into tokens, which joined are the text again, valid JSON or not. @param {string} text @returns {Token[]} */
export function tokens(text) {
	/** @type {Token[]} */
	const found = [];
	for (const match of text.matchAll(TOKEN)) {
		found.push({ kind: KINDS[match.slice(1).findIndex((group) => group !== undefined)], text: match[0] });
	}
	return found;
}

/**
 * The text of a value inside a JSON text, byte for byte: member(text, "payload") or member(text, "data", 0,
 * "payload"). Returns undefined if it is not there.
 *
 * @param {string} text
 * @param {...(string | number)} way names of members, and places in arrays
 * @returns {string | undefined}
 */
export function member(text, ...way) {
	const all = tokens(text);
	let at = skip(all, 0);
	for (const step of way) {
		const place = inside(all, at, step);
		if (place === undefined) return undefined;
		at = place;
	}
	return all.slice(at, end(all, at)).map((token) => token.text).join("");
}

/** The next place that is not white space. @param {Token[]} all @param {number} at */
function skip(all, at) {
	while (all[at]?.kind === "space") at++;
	return at;
}

/** The place after the value that begins at `at`. @param {Token[]} all @param {number} at */
function end(all, at) {
	let depth = 0;
	for (let i = at; i < all.length; i++) {
		if (all[i].text === "{" || all[i].text === "[") depth++;
		if (all[i].text === "}" || all[i].text === "]") depth--;
		if (depth === 0) return i + 1;
	}
	return all.length;
}

/**
 * @param {Token[]} all
 * @param {number} at
 * @param {string | number} step
 * @returns {number | undefined} where the value begins
 */
function inside(all, at, step) {
	const open = all[at]?.text;
	if (open !== (typeof step === "number" ? "[" : "{")) return undefined;
	at = skip(all, at + 1);
	for (let index = 0; at < all.length && all[at].text !== "}" && all[at].text !== "]"; index++) {
		let name;
		if (open === "{") {
			name = all[at].text;
			at = skip(all, skip(all, at + 1) + 1);
		}
		if (open === "[" ? index === step : name === JSON.stringify(step)) return at;
		at = skip(all, end(all, at));
		if (all[at]?.text === ",") at = skip(all, at + 1);
	}
	return undefined;
}

/** The texts of the values in an array inside a JSON text. @param {string} text @param {...(string | number)} way */
export function elements(text, ...way) {
	const all = tokens(member(text, ...way) ?? "[]");
	const found = [];
	for (let at = skip(all, 1); at < all.length && all[at].text !== "]"; at = skip(all, at + 1)) {
		const after = end(all, at);
		found.push(all.slice(at, after).map((token) => token.text).join(""));
		at = skip(all, after);
		if (all[at]?.text !== ",") break;
	}
	return found;
}

/** A JSON text of `body` with one member more, whose text is taken as it is. @param {object} body @param {string} name @param {string} text */
export function joined(body, name, text) {
	try {
		JSON.parse(text);
	} catch (error) {
		throw new Error(`${name} is not JSON: ${/** @type {Error} */ (error).message}`);
	}
	return `${JSON.stringify(body).slice(0, -1)},${JSON.stringify(name)}:${text}}`;
}

/** Indents a JSON text by two spaces a level. What is not white space between tokens stays. @param {string} text */
export function pretty(text) {
	let out = "", depth = 0;
	const all = tokens(text).filter((token) => token.kind !== "space");
	const line = () => "\n" + "  ".repeat(Math.max(0, depth));
	for (const [i, { kind, text }] of all.entries()) {
		const punctuation = kind === "punctuation" ? text : "";
		const next = all[i + 1]?.text;
		if (punctuation === "{" || punctuation === "[") {
			depth++;
			out += text + (next === "}" || next === "]" ? "" : line());
		} else if (punctuation === "}" || punctuation === "]") {
			depth--;
			const before = all[i - 1]?.text;
			out += (before === "{" || before === "[" ? "" : line()) + text;
		} else if (punctuation === ",") out += text + line();
		else if (punctuation === ":") out += ": ";
		else out += text;
	}
	return out;
}

/** Whether a text is JSON at all; else it is shown as it is. @param {string} text */
export function isJson(text) {
	try {
		JSON.parse(text);
		return true;
	} catch {
		return false;
	}
}

/** The longest text that is coloured: beyond it, tens of thousands of elements would slow the page down. */
const COLOURED = 60_000;

/**
 * Shows a text, coloured if it is JSON, in an element that can be scrolled by keyboard.
 *
 * @param {string} text
 * @param {string} label
 * @param {{indent?: boolean}} [options]
 */
export function code(text, label, { indent = false } = {}) {
	const json = isJson(text);
	const shown = json && indent ? pretty(text) : text;
	const spans = json && shown.length <= COLOURED
		? tokens(shown).map((token, i, all) =>
			token.kind === "punctuation" || token.kind === "space"
				? token.text
				: h("span", { class: all[i + 1]?.text === ":" ? "json-name" : `json-${token.kind}` }, token.text)
		)
		: [shown];
	return h(
		"pre",
		{ class: "code", tabindex: 0, role: "region", "aria-label": label },
		h("code", ...spans),
	);
}
