/**
 * Shows JSON without reading it into numbers and strings: everything works on the text, so that 1.10 stays 1.10, large
 * integers stay exact and escapes stay as they were written. Never parse and stringify what is shown or copied.
 */

import { fill, h } from "./dom.js";
import { buttons, copy } from "./parts.js";

const TOKEN = /(\s+)|([{}[\],:])|("(?:[^"\\]|\\.)*"?)|(-?\d[\d.eE+-]*)|(\w+)|([^])/g;
const KINDS = ["space", "punctuation", "string", "number", "word", "other"];

/** Cuts a text, valid JSON or not, into tokens, which joined are the text again. */
function tokens(text) {
	return [...text.matchAll(TOKEN)].map((match) => ({
		index: match.index,
		text: match[0],
		kind: KINDS.find((_, i) => match[i + 1] !== undefined),
	}));
}

/** The members or elements of a JSON text: names or places, and the texts of the values, byte for byte. */
export function entries(text) {
	/** @type {any[]} */
	const found = [];
	const isArray = text.trimStart()[0] === "[";
	let depth = 0, from = 0, name = "";
	for (const { text: mark, index, kind } of tokens(text)) {
		if (kind !== "punctuation") continue;
		const opens = "{[".includes(mark), closes = "}]".includes(mark);
		if (opens && ++depth > 1 || closes && --depth > 0 || depth > 1) continue;
		const value = text.slice(from, index).trim();
		if (mark === ":") name = JSON.parse(value);
		else if (!opens && value) found.push([isArray ? found.length : name, value]);
		from = index + 1;
	}
	return found;
}

/** The text of a value inside a JSON text, if it is there: member(text, "data", 0, "payload"). */
export function member(text, ...way) {
	return way.reduce((at, step) => at && entries(at).find(([name]) => name === step)?.[1], text);
}

/** A JSON text of what `body` has, with one member more, whose text is taken as it is. */
export function joined(body, name, text) {
	try {
		JSON.parse(text);
	} catch (error) {
		throw new Error(`${name} is not JSON: ${error.message}`);
	}
	const given = JSON.stringify(body, (_name, value) => value ?? undefined);
	return `${given.slice(0, -1)},${JSON.stringify(name)}:${text}}`;
}

/** Indents a JSON text by two spaces a level. What is not white space between tokens stays. */
export function pretty(text) {
	let out = "", depth = 0, before = "";
	for (const { text: mark, kind } of tokens(text)) {
		if (kind === "space") continue;
		const closes = "}]".includes(mark);
		if (closes) depth--;
		if ("{[".includes(before) ? before && !closes : before === "," || closes) out += "\n" + "  ".repeat(depth);
		if ("{[".includes(mark)) depth++;
		out += mark === ":" ? ": " : mark;
		before = mark;
	}
	return out;
}

/** The longest text that is coloured: beyond it, tens of thousands of elements would slow the page down. */
const COLOURED = 60_000;

/** Shows a text, indented and coloured if it is JSON, in an element that can be scrolled by keyboard. */
export function code(text, label, indent = true) {
	const span = ({ kind, text }, i, all) =>
		["punctuation", "space"].includes(kind) ? text : h(`span.json-${all[i + 1]?.text === ":" ? "name" : kind}`, text);
	const draw = () => {
		const shown = indent ? pretty(text) : text;
		return shown.length > COLOURED ? shown : tokens(shown).map(span);
	};
	return h("pre.code", { tabindex: 0, role: "region", "aria-label": label }, h("code", isJson(text) ? draw() : text));
}

function isJson(text) {
	try {
		return JSON.parse(text) !== undefined;
	} catch {
		return false;
	}
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
