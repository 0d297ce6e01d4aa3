/**
 * Shows JSON without reading it into numbers and strings: everything works on the text, so that 1.10 stays 1.10, large
 * integers stay exact and escapes stay as they were written. Never parse and stringify what is shown or copied.
 */

import { fill, h } from "./dom.js";
import { buttons, copy } from "./parts.js";

/** @typedef {{kind: string, text: string}} Token */

const TOKEN = /(\s+)|([{}[\],:])|("(?:[^"\\]|\\.)*"?)|(-?\d[\d.eE+-]*)|(\w+)|([^])/g;
const KINDS = ["space", "punctuation", "string", "number", "word", "other"];

/** Cuts a text, valid JSON or not, into tokens, which joined are the text again. @returns {Token[]} */
function tokens(text) {
	return [...text.matchAll(TOKEN)].map(([text, ...groups]) => ({
		kind: KINDS[groups.findIndex((group) => group !== undefined)],
		text,
	}));
}

/**
 * The text of a value inside a JSON text, byte for byte, if it is there: member(text, "data", 0, "payload").
 *
 * @param {string} text
 * @param {...(string | number)} way names of members, and places in arrays
 */
export function member(text, ...way) {
	const all = tokens(text);
	let at = skip(all, 0);
	for (const step of way) {
		const place = inside(all, at, step);
		if (place === undefined) return undefined;
		at = place;
	}
	return joinedText(all, at, end(all, at));
}

function joinedText(all, from, to) {
	return all.slice(from, to).map((token) => token.text).join("");
}

/** The next place that is not white space. */
function skip(all, at) {
	while (all[at]?.kind === "space") at++;
	return at;
}

/** The place after the value that begins at `at`. */
function end(all, at) {
	let depth = 0;
	for (let i = at; i < all.length; i++) {
		if ("{[".includes(all[i].text)) depth++;
		if ("}]".includes(all[i].text)) depth--;
		if (depth === 0) return i + 1;
	}
	return all.length;
}

/** Where the value of a member or an element begins. */
function inside(all, at, step) {
	const open = all[at]?.text;
	if (open !== (typeof step === "number" ? "[" : "{")) return undefined;
	at = skip(all, at + 1);
	for (let index = 0; at < all.length && !"}]".includes(all[at].text); index++) {
		const name = all[at].text;
		if (open === "{") at = skip(all, skip(all, at + 1) + 1);
		if (open === "[" ? index === step : name === JSON.stringify(step)) return at;
		at = skip(all, end(all, at));
		if (all[at]?.text === ",") at = skip(all, at + 1);
	}
	return undefined;
}

/** The texts of the values in an array inside a JSON text. */
export function elements(text, name) {
	const all = tokens(member(text, name) ?? "[]"), found = [];
	for (let at = skip(all, 1); at < all.length && all[at].text !== "]"; at = skip(all, at + 1)) {
		const after = end(all, at);
		found.push(joinedText(all, at, after));
		at = skip(all, after);
		if (all[at]?.text !== ",") break;
	}
	return found;
}

/** A JSON text of `body` with one member more, whose text is taken as it is. */
export function joined(body, name, text) {
	try {
		JSON.parse(text);
	} catch (error) {
		throw new Error(`${name} is not JSON: ${/** @type {Error} */ (error).message}`);
	}
	return `${JSON.stringify(body).slice(0, -1)},${JSON.stringify(name)}:${text}}`;
}

/** Indents a JSON text by two spaces a level. What is not white space between tokens stays. */
export function pretty(text) {
	let out = "", depth = 0;
	const all = tokens(text).filter((token) => token.kind !== "space");
	const line = () => "\n" + "  ".repeat(Math.max(0, depth));
	for (const [i, { text }] of all.entries()) {
		if (text === "{" || text === "[") {
			depth++;
			out += text + ("}]".includes(all[i + 1]?.text ?? "") ? "" : line());
		} else if (text === "}" || text === "]") {
			depth--;
			out += ("{[".includes(all[i - 1]?.text ?? "") ? "" : line()) + text;
		} else if (text === ",") out += text + line();
		else out += text === ":" ? ": " : text;
	}
	return out;
}

function isJson(text) {
	try {
		JSON.parse(text);
		return true;
	} catch {
		return false;
	}
}

/** The longest text that is coloured: beyond it, tens of thousands of elements would slow the page down. */
const COLOURED = 60_000;

/** Shows a text, indented and coloured if it is JSON, in an element that can be scrolled by keyboard. */
export function code(text, label, indent = true) {
	const json = isJson(text);
	const shown = json && indent ? pretty(text) : text;
	const span = ({ kind, text }, /** @type {number} */ i, /** @type {Token[]} */ all) =>
		kind === "punctuation" || kind === "space"
			? text
			: h(`span.json-${all[i + 1]?.text === ":" ? "name" : kind}`, text);
	const spans = json && shown.length <= COLOURED ? tokens(shown).map(span) : shown;
	return h("pre.code", { tabindex: 0, role: "region", "aria-label": label }, h("code", spans));
}

/** A text that can be copied as it is, below its button. */
export function copied(text, label) {
	return [h("div.bar", buttons(copy(text, label))), code(text, label)];
}

/** A JSON text as it was sent or indented; what is copied is what was sent. */
export function payload(text, label) {
	const place = h("div");
	const draw = () => fill(place, code(text, label, indent.checked));
	const indent = h("input", { type: "checkbox", checked: true, onchange: draw });
	draw();
	return [h("div.bar", buttons(copy(text, label), h("label", indent, " Indented"))), place];
}
