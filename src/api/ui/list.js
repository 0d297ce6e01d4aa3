/** Tables and lists of the API: pages, filters in the address, and a refresh that moves nothing. */

import { isAborted, newest } from "./api.js";
import { fill, focus, h, keyed, nodes, p, swap } from "./dom.js";
import { live } from "./live.js";
import {
	action,
	empty as nothing,
	failure,
	field,
	fromLocalInput,
	input,
	loading,
	muted,
	plural,
	select,
	toLocalInput,
} from "./parts.js";
import { parse, setQuery } from "./route.js";

/** A table. Narrow windows show its rows as blocks, which for CSS are no table: hence the roles. */
export function table(caption, columns, rows = []) {
	const head = ([name, , kind]) => h("th", { role: "columnheader", scope: "col", class: kind }, name);
	return h(
		"table",
		{ role: "table" },
		h("caption.hidden", caption),
		h("thead", { role: "rowgroup" }, h("tr", { role: "row" }, columns.map((it) => it && head(it)))),
		h("tbody", { role: "rowgroup" }, rows.map((row) => tableRow(columns, row))),
	);
}

export function tableRow(columns, row) {
	const cell = ([name, cell, kind]) => h("td", { role: "cell", class: kind, "data-label": name }, h("div", cell(row)));
	return h("tr", { role: "row" }, columns.map((it) => it && cell(it)));
}

/** A table whose rows are kept if they have not changed. */
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
 * A part of a screen that is asked for every so many seconds (0: once), and when it is to be refreshed. When a request
 * fails, what was shown stays, below the failure. `first` is shown before anything is known.
 *
 * @param {AbortSignal} signal
 * @param {() => Promise<Children>} draw
 */
export function fresh(signal, draw, seconds = 2, first = /** @type {Child} */ (loading())) {
	const problem = h("div");
	let place = h("div", first);
	const once = async () => {
		try {
			const next = nodes([await draw()]);
			fill(problem);
			// Kept nodes must not be moved: that would take the focus from them.
			if (next.length === place.childNodes.length && next.every((node, i) => node === place.childNodes[i])) return;
			if (next.some((node) => node instanceof Node && place.contains(node))) return fill(place, ...next);
			const made = h("div", next);
			if (swap(place, made)) place = made;
		} catch (error) {
			if (signal.aborted || isAborted(error)) return;
			fill(problem, failure(error, once));
			if (place.querySelector(".waiting")) fill(place);
			throw error;
		}
	};
	const now = () => once().catch(() => {});
	if (seconds) live.every(signal, once, seconds);
	else now();
	return h("div", { onrefresh: now }, problem, place);
}

export const refresh = (part) => part.dispatchEvent(new Event("refresh"));

/** A part of a screen that is asked for once. */
export const load = (signal, ask, draw) => fresh(signal, async () => draw(await ask()), 0);

/** A list that is read page by page, below its filters. `reload` reads it anew. @param {Context} context @param {List} options */
export function list({ api, signal, keep }, { caption, noun, columns, empty, key = (row) => row.id, ...options }) {
	const { from = "", refresh } = options;
	const filters = (options.filters ?? []).filter((one) => one !== false);
	const load = options.load ?? ((page, signal) => api.get(from, { signal, query: { ...filtered(), ...page } }));
	/** A page; with the filter `q` those of the next 1,000 rows in which one of `texts` contains it. */
	const read = async (page, signal) => {
		const { q, ...query } = filtered(), { texts } = options;
		if (!q || !texts) return load(page, signal);
		const found = await api.all(from, { signal, query: { ...query, iterator: page.iterator } });
		const has = (row) => texts.some((name) => row[name]?.toLowerCase().includes(q.toLowerCase()));
		return { ...found, data: found.data.filter(has) };
	};
	const whole = table(caption, columns), body = whole.tBodies[0];
	const before = h("div"), after = h("div.after"), node = h("div.list", before, whole, after);
	const next = newest(signal);
	/** @type {any[]} */
	let rows = [];
	/** Keys of rows that the list has no more. */
	let left = new Set();
	/** @type {any} */
	let page = { data: [], iterator: null, done: false };
	let newer = page, loaded = false;

	const known = () => {
		const keys = new Set(rows.map(key));
		return (row) => keys.has(key(row));
	};

	const draw = () => {
		keyed(body, rows, key, (row) => tableRow(columns, row));
		rows.forEach((row, i) => body.children[i].classList.toggle("left", left.has(key(row))));
		whole.hidden = rows.length === 0;
		const isKnown = known(), added = newer.data.filter((row) => !isKnown(row)).length;
		fill(before, added > 0 && action(`${added} newer ${noun}: show`, () => take(newer), { kind: "fresh" }));
		if (!page.done) {
			const text = rows.length ? `${plural(rows.length, noun)} shown` : "None among the newest so far";
			fill(after, muted(text), action("Show more", more));
		} else fill(after, rows.length ? muted(`${plural(rows.length, noun)}, all shown`) : nothing(empty()));
	};

	const take = (first) => {
		page = newer = first;
		[rows, left] = [page.data, new Set()];
		draw();
	};

	/** Reads until a page has rows, three at most: pages of sparse filters may be empty. */
	const search = async (iterator, signal) => {
		for (let turn = 0;; turn++) {
			const page = await read({ iterator, limit: 50 }, signal);
			if (page.data.length || page.done || turn === 2) return page;
			iterator = page.iterator;
		}
	};

	const reload = async () => {
		const mine = next();
		node.ariaBusy = "true";
		if (!loaded) fill(after, loading());
		try {
			const first = await search(null, mine);
			if (mine.aborted) return;
			loaded = true;
			take(first);
		} catch (error) {
			if (isAborted(error)) return;
			fill(before);
			fill(after, failure(error, again));
			throw error;
		} finally {
			if (!mine.aborted) node.ariaBusy = null;
		}
	};
	const again = () => reload().catch(() => {});

	const more = async () => {
		const mine = next();
		fill(after, loading());
		try {
			const first = rows.length, isKnown = known();
			page = await search(page.iterator, mine);
			rows = [...rows, ...page.data.filter((row) => !isKnown(row))];
			draw();
			focus(body.children[first]?.querySelector("a, button"));
		} catch (error) {
			if (!isAborted(error)) fill(after, failure(error, more));
		}
	};

	/** Takes what changed in the first page: rows change in place, newer ones wait for a press. */
	const update = async () => {
		if (node.ariaBusy === "true") return;
		const mine = next(), first = await read({ limit: 50 }, mine);
		if (mine.aborted) return;
		if (rows.length === 0) return take(first);
		newer = first;
		const now = new Map(first.data.map((row) => [key(row), row]));
		const last = first.done ? rows.length : rows.findLastIndex((row) => now.has(key(row)));
		left = new Set(rows.slice(0, last).map(key).filter((name) => !now.has(name)));
		rows = rows.map((row) => now.get(key(row)) ?? row);
		draw();
	};

	if (refresh) live.every(signal, () => loaded ? update() : reload(), refresh);
	else again();
	if (filters.length) keep();
	return { nodes: [filters.length > 0 && filterForm(filters, signal, again), node], reload: again };
}

/** Filters whose values are the query of the address, also if that is changed elsewhere. @param {readonly Filter[]} filters */
function filterForm(filters, signal, changed) {
	const controls = filters.map(([name, label, kind, none = "any"]) => {
		const instant = kind === "instant";
		const control = kind && !instant
			? select([["", none], ...kind])
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
		return query.toString();
	};
	let shown = read();
	const follow = () => {
		const now = read();
		if (now !== shown) changed();
		shown = now;
	};
	addEventListener("hashchange", follow, { signal });
	const clear = () => setQuery(Object.fromEntries(filters.map(([name]) => [name, ""])));
	return h(
		"form.filters",
		{ "aria-label": "Filters", onsubmit: (event) => event.preventDefault() },
		controls.map(({ label, control }) => field(label, control)),
		action("Clear filters", clear),
	);
}

/** @type {Filter[]} */
export const PERIOD = [["after", "After", "instant"], ["before", "Before", "instant"]];

export const filtered = () => Object.fromEntries(parse().query);

/** What an empty list says: that nothing matches its filters, or, if none is set, something else. */
export function noneOf(noun, otherwise) {
	return parse().query.size ? p`No ${noun} matches these filters.` : otherwise;
}
