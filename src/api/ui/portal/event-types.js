/**
 * The catalogue: what messages there are, which fields they have, and an example of each.
 *
 * @module
 */

import { path } from "../api.js";
import { fill, h } from "../dom.js";
import { code, member } from "../json.js";
import { table } from "../list.js";
import { copy, empty, input, link, load, section } from "../parts.js";
import { href, setQuery } from "../route.js";
import { head } from "../screens/shared.js";
import { eventTypes } from "./shared.js";

/** @typedef {import("../portal.js").Context} Context */

/** @param {Context} context */
export function eventTypeList(context) {
	const { signal, title, query, keep } = context;
	title("Event types");
	keep();
	const place = h("div"), found = h("div", { class: "list" });
	load(place, signal, () => eventTypes(context), (types) => {
		if (types.length === 0) {
			return empty("There are no event types yet. They appear here as soon as the sender describes them.");
		}
		const draw = () => {
			const wanted = filter.value.trim().toLowerCase();
			const rows = types.filter((type) => `${type.name} ${type.description}`.toLowerCase().includes(wanted));
			fill(found, rows.length ? table("Event types", columns, rows) : empty("No event type matches."));
			if ((query.get("q") ?? "") !== filter.value) setQuery({ q: filter.value });
		};
		const filter = input({
			type: "search",
			"aria-label": "Filter the event types",
			placeholder: "Filter",
			value: query.get("q") ?? "",
			oninput: draw,
		});
		draw();
		return [h("div", { class: "filters" }, filter), found];
	});
	return h(
		"div",
		head("Event types", []),
		h("section", h("p", "What you can be told about."), place),
	);
}

/** @type {import("../list.js").Column[]} */
const columns = [
	[
		"Event type",
		(
			row,
		) => [
			link(row.name, href(["event-types", row.name])),
			row.deprecated && h("div", { class: "muted" }, "deprecated"),
		],
		"wide",
	],
	["Description", (row) => row.description, "wide"],
];

export function eventType({ api, signal, params, title }) {
	title(params.type);
	const place = h("div");
	load(
		place,
		signal,
		() => api.call("GET", path`event-type/${params.type}`, { signal }),
		({ data, text }) => {
			const versions = Object.keys(data.schemas ?? {}).reverse();
			return [
				data.deprecated && h("p", { class: "note" }, "Deprecated: it may no longer be sent one day."),
				data.description && h("p", data.description),
				versions.length === 0 &&
				empty(
					"The sender has not described the fields of this event type. The content of a message shows them: ",
					link("Messages of this type", href(["messages"], { event_types: data.name })),
				),
				...versions.map((version) => schema(data.schemas[version], text, version, versions.length > 1)),
				versions.length > 0 &&
				h("p", link("Messages of this type", href(["messages"], { event_types: data.name }))),
			];
		},
	);
	return h("div", head(params.type, [link("Event types", href(["event-types"]))]), place);
}

function schema(schema, text, version, several) {
	const example = member(text, "schemas", version, "examples", 0) ??
		member(text, "schemas", version, "example");
	const whole = member(text, "schemas", version) ?? "";
	const of = several ? `, version ${version}` : "";
	return h(
		"div",
		{ class: "columns" },
		section(
			`Fields${of}`,
			schema.description && h("p", schema.description),
			tree(schema, schema, []) ?? empty("The schema names no fields."),
			h("details", h("summary", "As JSON Schema"), code(whole, "JSON Schema", { indent: true })),
		),
		example &&
			section(
				`Example${of}`,
				h("div", { class: "buttons bar" }, copy(example, "Example")),
				code(example, "Example", { indent: true }),
			),
	);
}

/** A schema that is meant by references within the document. */
function resolve(schema, root) {
	let found = schema;
	for (let turn = 0; turn < 8 && typeof found?.$ref === "string"; turn++) {
		const way = found.$ref.startsWith("#/") ? found.$ref.slice(2).split("/") : null;
		if (!way) return {};
		found = way.reduce(
			(at, step) => at?.[decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~")],
			root,
		);
	}
	return typeof found === "object" && found !== null ? found : {};
}

/**
 * The fields of an object, and theirs. A type that contains itself ends where it comes again.
 *
 * @param {readonly any[]} above the schemas that this one is in
 * @returns {HTMLUListElement | null}
 */
function tree(given, root, above) {
	const schema = resolve(given, root);
	if (above.includes(schema) || above.length > 12) return null;
	const within = [...above, schema];
	if (schema.items && !Array.isArray(schema.items)) return tree(schema.items, root, within);
	const parts = [
		schema,
		...(Array.isArray(schema.allOf) ? schema.allOf.map((part) => resolve(part, root)) : []),
	];
	const fields = parts.flatMap((part) =>
		Object.entries(part.properties ?? {}).map(([name, field]) => [name, field, part.required])
	);
	const choices = [schema.oneOf, schema.anyOf].filter(Array.isArray).flat();
	if (fields.length === 0 && choices.length === 0) return null;
	return h(
		"ul",
		{ class: "tree" },
		...fields.map(([name, field, required]) =>
			item(name, field, Array.isArray(required) && required.includes(name), root, within)
		),
		...choices.map((choice, i) => item(`either ${i + 1}`, choice, false, root, within)),
	);
}

function item(name, given, required, root, above) {
	const field = resolve(given, root);
	const text = given.description ?? field.description ?? field.title;
	return h(
		"li",
		h("strong", { class: "mono" }, name),
		" ",
		h(
			"span",
			{ class: "muted" },
			[kind(field, root), required && "required", ...rules(field)].filter(Boolean).join(" · "),
		),
		text && h("p", text),
		above.includes(field) ? h("p", { class: "muted" }, "the same fields as above") : tree(field, root, above),
	);
}

function kind(field, root) {
	if (field.const !== undefined) return `always ${JSON.stringify(field.const)}`;
	const types = [field.type].flat().filter(Boolean);
	if (field.items) return `list of ${kind(resolve(field.items, root), root)}`;
	return types.join(" or ") || (field.properties ? "object" : field.enum ? "" : "any");
}

function rules(field) {
	const names = /** @type {[string, string][]} */ ([
		["format", "format"],
		["minimum", "at least"],
		["maximum", "at most"],
		["minLength", "shortest"],
		["maxLength", "longest"],
		["minItems", "fewest"],
		["maxItems", "most"],
		["pattern", "pattern"],
	]);
	return [
		Array.isArray(field.enum) &&
		`one of ${field.enum.map((value) => JSON.stringify(value)).join(", ")}`,
		...names.map(([name, word]) => field[name] !== undefined && `${word} ${field[name]}`),
		field.default !== undefined && `default ${JSON.stringify(field.default)}`,
	];
}
