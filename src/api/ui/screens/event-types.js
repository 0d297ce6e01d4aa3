/** Event types: which there are, what fields they have, and an example of each. */

import { path } from "../api.js";
import { h, p } from "../dom.js";
import { copied, joined, member } from "../json.js";
import { filtered } from "../list.js";
import {
	area,
	ask,
	columns,
	confirming,
	empty,
	field,
	input,
	link,
	load,
	muted,
	note,
	say,
	section,
	state,
	when,
} from "../parts.js";
import { href, parse } from "../route.js";
import { head, listScreen, noneMatches, permitted } from "./shared.js";

const stateOf = ({ archived, deprecated }) => state(archived ? "archived" : deprecated ? "deprecated" : "active");

/** @param {Context} context */
export function eventTypes(context) {
	const { api, portal, to } = context;
	const add = () =>
		permitted(context, "administer", "Add event type", () => edit(context, null, "", () => reload()), { kind: "main" });
	const load = async (page, signal) => {
		const { q = "", ...query } = filtered(), wanted = q.toLowerCase();
		if (!q) return api.get("event-type", { signal, query: { with_content: true, ...query, ...page } });
		const { data } = await api.all("event-type", { signal, query: { with_content: true, ...query } });
		const rows = data.filter(({ name, description }) => `${name} ${description}`.toLowerCase().includes(wanted));
		return { data: rows, iterator: null, done: true };
	};
	/** @type {Column[]} */
	const columns = [
		["Name", (row) => link(row.name, to.type(row.name))],
		["State", stateOf],
		["Description", (row) => row.description, "wide"],
		["Schema", (row) => row.schemas ? `version ${Object.keys(row.schemas).join(", ")}` : "none"],
		["Changed", (row) => when(row.updatedAt)],
	];
	/** @type {Filter} */
	const archived = { name: "include_archived", label: "Archived", options: [["true", "shown"]], none: "hidden" };
	const { node, reload } = listScreen(context, {
		title: "Event types",
		actions: add(),
		caption: "Event types",
		noun: "event types",
		load,
		key: (row) => row.name,
		filters: [{ name: "q", label: "Filter the event types" }, ...(portal ? [] : [archived])],
		columns: portal ? columns.slice(0, 3) : columns,
		empty: () => {
			if (parse().query.size) return noneMatches("event type");
			if (portal) return h("p", "No event type is described yet.");
			return [
				p`No event type yet. Messages may have any; one that is described here has a schema and an example for your customers, and endpoints can ask for it alone.`,
				add(),
			];
		},
	});
	return node;
}

/** Makes an event type, or changes one. */
function edit({ api }, type, schemas, then) {
	const name = input({ required: true, value: type?.name ?? "", disabled: !!type });
	const description = input({ required: true, value: type?.description ?? "" });
	const text = area({ rows: 12, value: schemas });
	const old = input({ type: "checkbox", checked: type?.deprecated });
	const run = async () => {
		const given = {
			description: description.value,
			deprecated: old.checked,
			...(!type && { name: name.value.trim() }),
		};
		const body = joined(given, "schemas", text.value.trim() || "null");
		await (type ? api.patch(path`event-type/${type.name}`, body) : api.post("event-type", body));
		say("Saved");
		then();
	};
	const hint = 'JSON: a JSON Schema for each version, {"1": {"type": "object", "examples": [{}]}}. Empty: none.';
	ask(
		{ title: type ? `Change ${type.name}` : "Add an event type", button: "Save", run },
		field("Name", name, "For example order.paid"),
		field("Description", description),
		field("Schemas", text, hint),
		field("Deprecated", old),
	);
}

/** The text of the newest example in the text of an event type. */
export function example(text, { schemas }) {
	return exampleOf(text, Object.keys(schemas ?? {}).at(-1) ?? "");
}

function exampleOf(text, version) {
	return member(text, "schemas", version, "examples", 0) ?? member(text, "schemas", version, "example");
}

/** @param {Context} context */
export function eventType(context) {
	const { api, signal, params, portal } = context;
	const base = path`event-type/${params.type}`;
	return load(signal, () => api.call("GET", base, { signal }), ({ data: type, text }, again) => {
		const schemas = type.schemas ? member(text, "schemas") ?? "" : "";
		const versions = Object.keys(type.schemas ?? {}).reverse();
		const restore = async () => {
			await api.patch(base, { archived: false });
			say("Restored");
			await again();
		};
		const archive = confirming("Archive", {
			title: `Archive ${type.name}?`,
			text: "Endpoints cannot ask for it any more. Messages of this type are accepted as before.",
			run: () => api.patch(base, { archived: true }),
			done: "Archived",
			then: again,
		});
		const change = () => edit(context, type, schemas, again);
		return [
			head(
				[type.name, " ", stateOf(type)],
				[link("Event types", href(["event-type" + (portal ? "s" : "")]))],
				portal
					? link("Messages of this type", href(["messages"], { event_types: type.name }), { class: "button" })
					: link("Send a message", href(["send"], { type: type.name }), { class: "button" }),
				type.archived
					? permitted(context, "administer", "Restore", restore)
					: permitted(context, "administer", "Archive", archive),
				permitted(context, "administer", "Change", change, { kind: "main" }),
			),
			type.deprecated && note(h("p", "Deprecated: it may no longer be sent one day.")),
			h("p", type.description),
			muted("Changed ", when(type.updatedAt)),
			versions.length === 0 && empty("Its fields are not described. The content of a message shows them."),
			versions.map((version) => schema(type.schemas[version], text, version, versions.length > 1)),
		];
	});
}

function schema(schema, text, version, several) {
	const example = exampleOf(text, version), of = several ? `, version ${version}` : "";
	return columns(
		section(
			`Fields${of}`,
			schema.description && h("p", schema.description),
			tree(schema, schema, []) ?? empty("The schema names no fields."),
			h("details", h("summary", "As JSON Schema"), copied(member(text, "schemas", version) ?? "", "Schema")),
		),
		section(
			`Example${of}`,
			example
				? copied(example, "Example")
				: empty("None: the first entry of ", h("code", "examples"), " would be one."),
		),
	);
}

/** A schema that is meant by references within the document. */
function resolve(schema, root) {
	let found = schema;
	for (let turn = 0; turn < 8 && typeof found?.$ref === "string"; turn++) {
		if (!found.$ref.startsWith("#/")) return {};
		const way = found.$ref.slice(2).split("/").map((step) =>
			decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~")
		);
		found = way.reduce((at, step) => at?.[step], root);
	}
	return typeof found === "object" && found !== null ? found : {};
}

/**
 * The fields of an object, and theirs. A type that contains itself ends where it comes again.
 *
 * @param {any} given
 * @param {any} root
 * @param {readonly any[]} above the schemas that this one is in
 * @returns {HTMLUListElement | null}
 */
function tree(given, root, above) {
	const schema = resolve(given, root);
	if (above.includes(schema) || above.length > 12) return null;
	const within = [...above, schema];
	if (schema.items && !Array.isArray(schema.items)) return tree(schema.items, root, within);
	const list = (value) => Array.isArray(value) ? value : [];
	const parts = [schema, ...list(schema.allOf).map((part) => resolve(part, root))];
	const fields = parts.flatMap(({ properties, required }) =>
		Object.entries(properties ?? {}).map(([name, field]) =>
			item(name, field, list(required).includes(name), root, within)
		)
	);
	const choices = [...list(schema.oneOf), ...list(schema.anyOf)];
	const either = choices.map((choice, i) => item(`either ${i + 1}`, choice, false, root, within));
	return fields.length + either.length ? h("ul.tree", fields, either) : null;
}

function item(name, given, required, root, above) {
	const field = resolve(given, root);
	const text = given.description ?? field.description ?? field.title;
	const rules = [kind(field, root), required && "required", ...RULES.map((rule) => rule(field))].filter(Boolean);
	return h(
		"li",
		h("strong.mono", name),
		" ",
		h("span.muted", rules.join(" · ")),
		text && h("p", text),
		above.includes(field) ? muted("the same fields as above") : tree(field, root, above),
	);
}

function kind(field, root) {
	if (field.const !== undefined) return `always ${JSON.stringify(field.const)}`;
	if (field.items) return `list of ${kind(resolve(field.items, root), root)}`;
	return [field.type].flat().filter(Boolean).join(" or ") || (field.properties ? "object" : field.enum ? "" : "any");
}

/** What a schema says about a value, in words. @type {((field: any) => unknown)[]} */
const RULES = [
	(field) => Array.isArray(field.enum) && `one of ${field.enum.map((value) => JSON.stringify(value)).join(", ")}`,
	...Object.entries({
		format: "format",
		minimum: "at least",
		maximum: "at most",
		minLength: "shortest",
		maxLength: "longest",
		minItems: "fewest",
		maxItems: "most",
		pattern: "pattern",
	}).map(([name, word]) => (/** @type {any} */ field) => field[name] !== undefined && `${word} ${field[name]}`),
	(field) => field.default !== undefined && `default ${JSON.stringify(field.default)}`,
];
