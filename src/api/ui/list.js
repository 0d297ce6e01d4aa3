/** Tables and lists of the API: pages, filters in the address, and a refresh that moves nothing under the reader's eyes. */

import { isAborted, newest } from "./api.js";
import { fill, h, keyed, nodes, swap } from "./dom.js";
import { live } from "./live.js";
import {
	action,
	count,
	empty as emptyBox,
	failure,
	field,
	fromLocalInput,
	input,
	muted,
	plural,
	select,
	tellWaiting,
	toLocalInput,
} from "./parts.js";
import { parse, setQuery } from "./route.js";

/** A table. Narrow windows show its rows as blocks, which for CSS are no table: hence the roles. */
export function table(caption, columns, rows = []) {
	const head = (/** @type {Column} */ [name, , kind]) =>
		h("th", { role: "columnheader", scope: "col", class: kind }, name);
	return h(
		"table",
		{ role: "table" },
		h("caption.hidden", caption),
		h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map(head))),
		h("tbody", { role: "rowgroup" }, rows.map((row) => tableRow(columns, row))),
	);
}

export function tableRow(columns, row) {
	const cell = (/** @type {Column} */ [name, cell, kind]) =>
		h("td", { role: "cell", class: kind, "data-label": name }, h("div", cell(row)));
	return h("tr", { role: "row" }, columns.map(cell));
}

/** A table that keeps its rows while what it shows is asked for again. */
export function keptTable(caption, columns, key, make = (row) => tableRow(columns, row)) {
	const node = table(caption, columns);
	return {
		node: h("div.list", node),
		set: (rows) => {
			node.hidden = rows.length === 0;
			keyed(node.tBodies[0], rows, key, make);
		},
	};
}

/**
 * A part of a screen that is asked for again and again. What was shown stays when a later request fails; the failure
 * stands above it. The event `refresh` at what it returns asks at once.
 *
 * @param {AbortSignal} signal
 * @param {() => Promise<Children>} draw
 * @param {number} [seconds]
 */
export function fresh(signal, draw, seconds) {
	const problem = h("div");
	let place = h("div", h("p.waiting", "Loading…"));
	const once = async () => {
		try {
			const next = nodes([await draw()]);
			fill(problem);
			// Kept nodes must not be moved: that would take the focus from them.
			if (next.length === place.childNodes.length && next.every((node, i) => node === place.childNodes[i])) return;
			if (next.some((node) => node instanceof Node && place.contains(node))) return void fill(place, ...next);
			const made = h("div", next);
			if (swap(place, made)) place = made;
		} catch (error) {
			if (signal.aborted || isAborted(error)) return;
			fill(problem, failure(error, once));
			if (place.querySelector(".waiting")) fill(place);
			throw error;
		}
	};
	live.every(signal, once, seconds);
	return h("div", { onrefresh: () => once().catch(() => {}) }, problem, place);
}

/**
 * A list that is read page by page. `reload` reads it anew, for example with other filters: the rows before stay,
 * dimmed, until the answer is there, and only the newest answer counts.
 *
 * @param {{
 *   caption: string, noun: string, columns: readonly Column[], key?: (row: any) => string, signal: AbortSignal,
 *   load: (page: {iterator?: string | null, limit: number}, signal: AbortSignal) => Promise<any>,
 *   empty: () => Children, refresh?: number,
 * }} options `noun`: what a row is, in the plural; `refresh`: after how many seconds it asks again
 */
export function list({ caption, columns, load, key = (row) => row.id, empty, signal, refresh, noun }) {
	const whole = table(caption, columns), body = whole.tBodies[0];
	const before = h("div"), after = h("div.after");
	const node = h("div.list", before, whole, after);
	const next = newest(signal);
	/** @type {any[]} */
	let rows = [];
	/** @type {any[] | null} */
	let waiting = null;
	let left = new Set();
	/** @type {string | null} */
	let iterator = null, newestIterator = null;
	let done = false, loaded = false;
	whole.hidden = true;

	const isIn = (others) => {
		const keys = new Set(others.map(key));
		return (row) => keys.has(key(row));
	};

	const draw = () => {
		keyed(body, rows, key, (row) => tableRow(columns, row));
		rows.forEach((row, i) => body.children[i].classList.toggle("left", left.has(key(row))));
		whole.hidden = rows.length === 0;
		const known = isIn(rows), newer = waiting?.filter((row) => !known(row)).length ?? 0;
		const showNew = () => {
			rows = waiting ?? rows;
			[waiting, left, iterator] = [null, new Set(), newestIterator];
			draw();
		};
		fill(before, newer > 0 && action(`${newer} newer ${noun}: show`, showNew, { kind: "fresh" }));
		if (rows.length === 0 && done) fill(after, emptyBox(empty()));
		else if (done) fill(after, muted(`${plural(rows.length, noun)}, all shown`));
		else {
			const text = rows.length ? `${plural(rows.length, noun)} shown` : "None among the newest so far";
			fill(after, muted(text), action("Show more", more));
		}
	};

	/** Reads until a page has rows: pages of sparse filters may be empty. */
	const read = async (from, signal) => {
		for (let turn = 0;; turn++) {
			const page = await load({ iterator: from, limit: 50 }, signal);
			if (page.data.length || page.done || turn === 4) return page;
			from = page.iterator;
		}
	};

	const reload = async () => {
		const mine = next(), asked = new AbortController();
		node.ariaBusy = "true";
		if (!loaded) tellWaiting(after, AbortSignal.any([mine, asked.signal]));
		try {
			const page = await read(null, mine);
			asked.abort();
			if (mine.aborted) return;
			[rows, iterator, done, loaded, waiting, left] = [page.data, page.iterator, page.done, true, null, new Set()];
			draw();
		} catch (error) {
			asked.abort();
			if (isAborted(error)) return;
			fill(before);
			fill(after, failure(error, () => reload().catch(() => {})));
			throw error;
		} finally {
			if (!mine.aborted) node.ariaBusy = null;
		}
	};

	const more = async () => {
		const mine = next();
		fill(after, h("p.waiting", { role: "status" }, "Loading…"));
		try {
			const page = await read(iterator, mine);
			const place = rows.length, known = isIn(rows);
			rows = [...rows, ...page.data.filter((row) => !known(row))];
			[iterator, done] = [page.iterator, page.done];
			draw();
			/** @type {HTMLElement | null | undefined} */ (body.children[place]?.querySelector("a, button"))?.focus();
		} catch (error) {
			if (!isAborted(error)) fill(after, failure(error, more));
		}
	};

	/** Takes what changed in the first page: rows change in place, newer ones wait for a press. */
	const update = async () => {
		if (node.ariaBusy === "true") return;
		const mine = next();
		const page = await load({ limit: 50 }, mine);
		if (mine.aborted) return;
		const now = new Map(page.data.map((row) => [key(row), row]));
		newestIterator = page.iterator;
		if (rows.length === 0) [rows, iterator, done, waiting] = [page.data, page.iterator, page.done, null];
		else {
			const last = page.done ? rows.length : rows.findLastIndex((row) => now.has(key(row)));
			left = new Set(rows.slice(0, last).map(key).filter((name) => !now.has(name)));
			rows = rows.map((row) => now.get(key(row)) ?? row);
			waiting = page.data.every(isIn(rows)) ? null : page.data;
			if (waiting && page.done && rows.length <= page.data.length) done = true;
		}
		draw();
	};

	if (refresh) live.every(signal, () => loaded ? update() : reload(), refresh);
	else reload().catch(() => {});
	return { node, reload: () => reload().catch(() => {}) };
}

/**
 * Filters whose values are the query of the address, also if that is changed elsewhere. A change is taken over at once
 * for choices, and for texts at Enter or when the field is left.
 *
 * @param {readonly Filter[]} filters
 * @param {AbortSignal} signal
 * @param {() => void} changed
 */
function filterForm(filters, signal, changed) {
	const controls = filters.map(({ name, label, options, instant, none = "any" }) => {
		const control = options ? select([["", none], ...options]) : input({ type: instant ? "datetime-local" : "search" });
		const write = () => setQuery({ [name]: instant ? fromLocalInput(control.value) : control.value.trim() });
		control.addEventListener("change", write);
		return { name, label, instant, control };
	});
	const read = () => {
		const { query } = parse();
		for (const { name, instant, control } of controls) {
			const value = query.get(name) ?? "";
			control.value = instant ? toLocalInput(value) : value;
		}
		return query.toString();
	};
	let shown = read();
	addEventListener("hashchange", () => {
		const now = read();
		if (now !== shown) changed();
		shown = now;
	}, { signal });
	const clear = () => setQuery(Object.fromEntries(filters.map(({ name }) => [name, ""])));
	return h(
		"form.filters",
		{ "aria-label": "Filters", onsubmit: (event) => event.preventDefault() },
		controls.map(({ label, control }) => field(label, control)),
		action("Clear filters", clear),
	);
}

/** Filters by time. @type {Filter[]} */
export const PERIOD = [
	{ name: "after", label: "After", instant: true },
	{ name: "before", label: "Before", instant: true },
];

/** The filters as they are set now. */
export function filtered() {
	return Object.fromEntries(parse().query);
}

/**
 * A list with its filters.
 *
 * @param {Context} context
 * @param {Partial<Parameters<typeof list>[0]> & {
 *   caption: string, noun: string, columns: readonly Column[], empty: () => Children, from?: string, filters?: Filter[],
 * }} options as of `list`; `from`: the path of the list
 */
export function filteredList({ api, signal, keep }, { from = "", filters = [], ...options }) {
	if (filters.length) keep();
	const { node, reload } = list({
		signal,
		load: (page, signal) => api.get(from, { signal, query: { ...filtered(), ...page } }),
		...options,
	});
	return { nodes: [filters.length > 0 && filterForm(filters, signal, reload), node], reload };
}

/** @param {number} n a count that the server ends at 1,000 */
export function capped(n) {
	return n >= 1000 ? "1,000 or more" : count(n);
}
