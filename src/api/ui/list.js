/**
 * A list of the API as a table: pages, filters in the address, and a refresh that moves nothing under the
 * reader's eyes.
 *
 * @module
 */

import { isAborted, newest } from "./api.js";
import { fill, h, keyed } from "./dom.js";
import { live } from "./live.js";
import {
	empty as emptyBox,
	failure,
	field,
	fromLocalInput,
	input,
	select,
	tellWaiting,
	toLocalInput,
} from "./parts.js";
import { parse, setQuery } from "./route.js";

/** @typedef {import("./dom.js").Children} Children */
/** @typedef {import("./api.js").Page} Page */
/** @typedef {[name: string, cell: (row: any) => Children, kind?: "number" | "actions" | "wide"]} Column */

/**
 * A table of rows that are there already.
 *
 * @param {string} caption
 * @param {readonly Column[]} columns
 * @param {readonly any[]} [rows]
 */
export function table(caption, columns, rows = []) {
	const body = h("tbody", { role: "rowgroup" }, ...rows.map((row) => tableRow(columns, row)));
	return h(
		"table",
		// Narrow windows show rows as blocks, and a table that is no table for CSS would be none for readers.
		{ role: "table" },
		h("caption", { class: "hidden" }, caption),
		h(
			"thead",
			{ role: "rowgroup" },
			h(
				"tr",
				{ role: "row" },
				...columns.map(([name, , kind]) =>
					h("th", { role: "columnheader", scope: "col", class: kind }, name)
				),
			),
		),
		body,
	);
}

/** @param {readonly Column[]} columns @param {any} row */
export function tableRow(columns, row) {
	return h(
		"tr",
		{ role: "row" },
		...columns.map(([name, cell, kind]) =>
			h("td", { role: "cell", class: kind, "data-label": name }, h("div", cell(row)))
		),
	);
}

/**
 * @typedef {object} ListOptions
 * @property {string} caption
 * @property {readonly Column[]} columns
 * @property {(page: {iterator?: string | null, limit: number}, signal: AbortSignal) => Promise<Page>} load
 * @property {(row: any) => string} key
 * @property {() => Children} empty what an empty list says
 * @property {AbortSignal} signal ends the list
 * @property {number} [limit] rows a page
 * @property {boolean} [refresh] whether it asks again every few seconds
 * @property {string} [noun] what a row is, in the plural
 */

/**
 * A list that is read page by page. `reload` reads it anew, for example with other filters: the rows before
 * stay, dimmed, until the answer is there, and only the newest answer counts.
 *
 * @param {ListOptions} options
 */
export function list(
	{ caption, columns, load, key, empty, signal, limit = 50, refresh = false, noun = "rows" },
) {
	const whole = table(caption, columns);
	const body = /** @type {HTMLElement} */ (whole.querySelector("tbody"));
	const before = h("div"), after = h("div", { class: "after" });
	const node = h("div", { class: "list" }, before, whole, after);
	const next = newest(signal);
	/** @type {any[]} */
	let rows = [];
	/** @type {any[] | null} */
	let waiting = null;
	/** @type {Set<string>} */
	let left = new Set();
	/** @type {string | null} */
	let iterator = null;
	let done = false, loaded = false;
	whole.hidden = true;

	const draw = () => {
		keyed(body, rows, key, (row) => tableRow(columns, row));
		rows.forEach((row, i) => body.children[i].classList.toggle("left", left.has(key(row))));
		whole.hidden = rows.length === 0;
		const fresh = waiting ? waiting.filter((row) => !rows.some((old) => key(old) === key(row))).length : 0;
		const showNew = () => {
			rows = waiting ?? rows;
			[waiting, left, iterator] = [null, new Set(), rows.length ? newestIterator : iterator];
			draw();
		};
		fill(
			before,
			fresh > 0 &&
				h("button", { type: "button", class: "fresh", onclick: showNew }, `${fresh} newer ${noun}: show`),
		);
		foot();
	};
	/** @type {string | null} */
	let newestIterator = null;

	const foot = () => {
		if (!loaded) return;
		if (rows.length === 0 && done) fill(after, emptyBox(empty()));
		else if (done) {
			fill(after, h("p", { class: "muted" }, `${rows.length.toLocaleString()} ${noun}, all shown`));
		} else {
			const text = rows.length
				? `${rows.length.toLocaleString()} ${noun} shown`
				: "None among the newest so far";
			fill(
				after,
				h("p", { class: "muted" }, text),
				h("button", { type: "button", onclick: more }, "Show more"),
			);
		}
	};

	/** Reads until a page has rows: pages of sparse filters may be empty. @param {string | null} from @param {AbortSignal} signal */
	const read = async (from, signal) => {
		for (let turn = 0;; turn++) {
			const page = await load({ iterator: from, limit }, signal);
			if (page.data.length || page.done || turn === 4) return page;
			from = page.iterator;
		}
	};

	const reload = async () => {
		const mine = next();
		node.setAttribute("aria-busy", "true");
		const asked = new AbortController();
		if (!loaded) tellWaiting(after, AbortSignal.any([mine, asked.signal]));
		try {
			const page = await read(null, mine);
			asked.abort();
			if (mine.aborted) return;
			[rows, iterator, done, loaded, waiting, left] = [
				page.data,
				page.iterator,
				page.done,
				true,
				null,
				new Set(),
			];
			draw();
		} catch (error) {
			asked.abort();
			if (isAborted(error)) return;
			fill(before);
			fill(after, failure(error, reload));
			throw error;
		} finally {
			if (!mine.aborted) node.removeAttribute("aria-busy");
		}
	};

	const more = async () => {
		const mine = next();
		fill(after, h("p", { class: "waiting", role: "status" }, "Loading…"));
		try {
			const page = await read(iterator, mine);
			const seen = new Set(rows.map(key));
			const place = rows.length;
			rows = [...rows, ...page.data.filter((row) => !seen.has(key(row)))];
			[iterator, done] = [page.iterator, page.done];
			draw();
			/** @type {HTMLElement | null | undefined} */ (body.children[place]?.querySelector("a, button"))
				?.focus();
		} catch (error) {
			if (!isAborted(error)) fill(after, failure(error, more));
		}
	};

	/** Takes what changed in the first page: rows change in place, newer ones wait for a press. */
	const update = async () => {
		if (!loaded || node.ariaBusy === "true") return;
		const mine = next();
		const page = await load({ limit }, mine);
		if (mine.aborted) return;
		const now = new Map(page.data.map((row) => [key(row), row]));
		newestIterator = page.iterator;
		if (rows.length === 0) [rows, iterator, done, waiting] = [page.data, page.iterator, page.done, null];
		else {
			const last = page.done ? rows.length : rows.findLastIndex((row) => now.has(key(row)));
			left = new Set(rows.slice(0, last).map(key).filter((name) => !now.has(name)));
			rows = rows.map((row) => now.get(key(row)) ?? row);
			waiting = page.data.some((row) => !rows.some((old) => key(old) === key(row))) ? page.data : null;
			if (waiting && page.done) done = rows.length > page.data.length ? done : true;
		}
		draw();
	};

	if (refresh) live.every(signal, () => loaded ? update() : reload(), { seconds: 2 });
	else reload().catch(() => {});
	return { node, reload: () => reload().catch(() => {}) };
}

/** @typedef {{name: string, label: string, options?: readonly (string | [string, string])[], instant?: boolean, none?: string}} Filter */

/**
 * Filters whose values are the query of the address, also if that is changed elsewhere. A change is taken over
 * at once for choices, and for texts at Enter or when the field is left.
 *
 * @param {readonly Filter[]} filters
 * @param {AbortSignal} signal
 * @param {(query: URLSearchParams) => void} changed
 */
export function filterForm(filters, signal, changed) {
	const controls = filters.map(({ name, label, options, instant, none }) => {
		const control = options
			? select([["", none ?? "any"], ...options])
			: input({ type: instant ? "datetime-local" : "search" });
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
		return query;
	};
	let shown = read().toString();
	addEventListener("hashchange", () => {
		const query = read();
		if (query.toString() === shown) return;
		shown = query.toString();
		changed(query);
	}, { signal });
	const clear = () => setQuery(Object.fromEntries(filters.map((filter) => [filter.name, ""])));
	return h(
		"form",
		{
			class: "filters",
			"aria-label": "Filters",
			onsubmit: (event) => event.preventDefault(),
		},
		...controls.map(({ label, control }) => field(label, control)),
		h("button", { type: "button", onclick: clear }, "Clear filters"),
	);
}
