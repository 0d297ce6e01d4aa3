/**
 * The endpoints with their last 24 hours, and the form that adds one.
 *
 * @module
 */

import { bars } from "../chart.js";
import { fill, h } from "../dom.js";
import { action, ago, count, empty, field, form, input, link, load, say, section, share } from "../parts.js";
import { go, href } from "../route.js";
import { endpointState, fresh, head, keptTable } from "../screens/shared.js";
import { endpointHref, eventTypes, limits, whyDisabled } from "./shared.js";

/** @typedef {import("../portal.js").Context} Context */

/** @param {Context} context */
export function endpoints(context) {
	const { api, app, can, signal, title } = context;
	title("Endpoints");
	let most = 250;
	const kept = keptTable("Endpoints", columns(), (row) => row.id);
	const after = h("div", { class: "after" });
	const draw = async () => {
		const [found, statistics] = await Promise.all([
			api.all(`${app}/endpoint`, { signal, most }),
			// Counts must not keep the list from being shown.
			api.all("stats/delivery", { signal, most: 1000, query: { by: "endpoint" } }).catch(() => ({
				data: [],
			})),
		]);
		const series = new Map(statistics.data.map((row) => /** @type {const} */ ([row.endpointId, row])));
		kept.set(found.data.map((row) => ({ ...row, series: series.get(row.id) })));
		const more = () => {
			most += 250;
			return draw();
		};
		if (found.data.length === 0) fill(after, nothing(context));
		else if (found.done) fill(after);
		else fill(after, h("p", `${count(found.data.length)} shown`), action("Show more", more));
		return [kept.node, after];
	};
	return h(
		"div",
		head(
			"Endpoints",
			[],
			can("manage") && add(),
		),
		limits(context, "manage"),
		h("section", fresh(signal, draw, 10)),
	);
}

function add() {
	return action("Add endpoint", () => go(href(["endpoints", "new"])), { kind: "main" });
}

function nothing({ can }) {
	return empty(
		h(
			"p",
			"No endpoint yet. An endpoint is an address of your server that messages are sent to, as they happen.",
		),
		can("manage") ? add() : "None can be added with this link.",
	);
}

/** @returns {import("../list.js").Column[]} */
function columns() {
	return [
		["Endpoint", (row) => [
			link(row.url, endpointHref(row.id), { class: "address" }),
			row.description && h("div", { class: "muted" }, row.description),
		], "wide"],
		["State", (row) => [
			endpointState(row),
			row.disabled
				? h("div", { class: "muted" }, whyDisabled(row))
				: row.failingSince && h("div", { class: "muted" }, "since ", ago(row.failingSince)),
		]],
		[
			"Event types",
			(row) =>
				row.eventTypes
					? row.eventTypes.length > 3 ? `${row.eventTypes.length} types` : row.eventTypes.join(", ")
					: "all",
		],
		[
			"Last 24 h",
			(row) => row.series && bars(row.series.buckets, { title: "Last 24 h", step: 3600, table: false }),
		],
		["Success in 24 h", (row) => row.series && rate(row.series), "number"],
	];
}

function rate({ delivered, failed }) {
	if (delivered + failed === 0) return h("span", { class: "muted" }, "nothing sent");
	return [
		h("span", { class: failed > delivered ? "bad" : "" }, share(delivered, failed)),
		h("div", { class: "muted" }, `of ${count(delivered + failed)} attempts`),
	];
}

/** @param {Context} context */
export function addEndpoint(context) {
	const { api, app, signal, can, title } = context;
	title("Add endpoint");
	const heading = head("Add endpoint", [link("Endpoints", href(["endpoints"]))]);
	if (!can("manage")) return h("div", heading, limits(context, "manage"));
	const place = h("div");
	load(place, signal, () => eventTypes(context), (types) => {
		const parts = editor({ url: "", description: "", eventTypes: null }, types);
		const run = async () => {
			const made = await api.post(`${app}/endpoint`, parts.value());
			say("Endpoint added");
			go(`${endpointHref(made.id, "setup")}?new=1`);
		};
		return section("", form({ button: "Add endpoint", run }, ...parts.nodes));
	});
	return h("div", heading, place);
}

/**
 * The fields of an endpoint.
 *
 * @param {{url: string, description: string, eventTypes: string[] | null}} endpoint
 * @param {any[]} types
 */
export function editor(endpoint, types) {
	const url = input({
		type: "url",
		required: true,
		value: endpoint.url,
		placeholder: "https://example.com/webhooks",
		maxlength: 4096,
	});
	const description = input({ value: endpoint.description, maxlength: 1024 });
	const picker = pickTypes(types, endpoint.eventTypes);
	return {
		nodes: [
			field(
				"URL",
				url,
				"Where messages are sent to, by POST. Your server answers with a status from 200 to 299.",
			),
			field("Description", description, "For yourself, such as Production. May stay empty."),
			picker.node,
		],
		value: () => ({ url: url.value.trim(), description: description.value, eventTypes: picker.value() }),
	};
}

function pickTypes(types, chosen) {
	const known = new Map(types.map((type) => [type.name, type]));
	for (const name of chosen ?? []) {
		if (!known.has(name)) known.set(name, { name, description: "No longer in the list of event types." });
	}
	const boxes = [...known.values()].map((type) => {
		const box = h("input", { type: "checkbox", value: type.name, checked: chosen?.includes(type.name) });
		const label = h(
			"label",
			box,
			h(
				"span",
				h("span", { class: "mono" }, type.name),
				type.description && h("span", { class: "muted" }, ` ${type.description.slice(0, 200)}`),
			),
		);
		return { box, label, text: `${type.name} ${type.description}`.toLowerCase() };
	});
	const radio = (some) =>
		h("input", {
			type: "radio",
			name: "which",
			checked: some === (chosen !== null),
			onchange: () => (list.hidden = !some),
		});
	const [all, some] = [radio(false), radio(true)];
	const filter = input({
		type: "search",
		class: "filter",
		"aria-label": "Filter the event types",
		placeholder: "Filter",
		oninput: () =>
			boxes.forEach(({ label, text }) => (label.hidden = !text.includes(filter.value.trim().toLowerCase()))),
	});
	const list = h(
		"div",
		{ hidden: chosen === null },
		boxes.length > 8 && filter,
		h(
			"div",
			{ class: "types", tabindex: 0, role: "group", "aria-label": "Event types" },
			...boxes.map(({ label }) => label),
		),
	);
	return {
		node: h(
			"fieldset",
			h("legend", "Event types"),
			h("label", { class: "choice" }, all, "All event types, also those that are added later"),
			boxes.length ? h("label", { class: "choice" }, some, "Only these") : h(
				"p",
				{ class: "hint" },
				"The list of event types is empty, so there is nothing to choose from yet.",
			),
			list,
		),
		value: () => {
			if (!some.checked) return null;
			const names = boxes.filter(({ box }) => box.checked).map(({ box }) => box.value);
			if (names.length === 0) throw new Error("Choose at least one event type, or all of them.");
			return names;
		},
	};
}
