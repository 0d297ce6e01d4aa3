/** Event types: which there are, what fields they have, and an example of each. */

import { path } from "../api.js";
import { h, p } from "../dom.js";
import { copied, joined, member } from "../json.js";
import { load, noneOf } from "../list.js";
import { ask, columns, empty, fieldsOf, goes, link, muted, note, say, section, state, when } from "../parts.js";
import { href } from "../route.js";
import { head, listScreen } from "./shared.js";

const stateOf = ({ archived, deprecated }) => state(archived ? "archived" : deprecated ? "deprecated" : "active");

/** @type {View} */
export function eventTypes(context) {
	const { api, portal, to, act, redraw } = context;
	const add = () => act("administer", "Add event type", () => edit(api, null, "", redraw), { kind: "main" });
	const none = portal ? h("p", "No event type is described yet.") : [
		p`No event type yet. Messages may have any; one that is described has a schema and an example, and endpoints can ask for it alone.`,
		add(),
	];
	return listScreen(context, {
		title: "Event types",
		actions: add(),
		caption: "Event types",
		noun: "event types",
		from: "event-type?with_content=true",
		texts: ["name", "description"],
		key: (row) => row.name,
		filters: [
			["q", "Filter the event types"],
			!portal && ["include_archived", "Archived", [["true", "shown"]], "hidden"],
		],
		columns: [
			["Name", (row) => link(row.name, to.type(row.name))],
			["State", stateOf],
			["Description", (row) => row.description, "wide"],
			!portal && ["Schema", (row) => row.schemas ? `version ${Object.keys(row.schemas).join(", ")}` : "none"],
			!portal && ["Changed", (row) => when(row.updatedAt)],
		],
		empty: () => noneOf("event type", none),
	});
}

function edit(api, type, schemas, then) {
	const { nodes, read } = fieldsOf(
		{ ...type, schemas },
		["name", "Name", "For example order.paid", { required: true, disabled: !!type }],
		["description", "Description", "", { required: true }],
		[
			"schemas",
			"Schemas",
			'JSON: a JSON Schema for each version, {"1": {"type": "object", "examples": [{}]}}. Empty: none.',
			{ type: "area", rows: 12 },
		],
		["deprecated", "Deprecated", "", { type: "checkbox" }],
		["archived", "Archived", "Endpoints cannot ask for it. Messages of this type are accepted as before.", {
			type: "checkbox",
		}],
	);
	const run = async () => {
		const { schemas, name, ...rest } = read();
		const body = joined(type ? rest : { name, ...rest }, "schemas", schemas ?? "null");
		await (type ? api.patch(path`event-type/${name}`, body) : api.post("event-type", body));
		say("Saved");
		then();
	};
	ask({ title: type ? `Change ${type.name}` : "Add an event type", button: "Save", run }, nodes);
}

/** The text of the newest example of an event type, or of one of its versions. */
export function example(text, { schemas }, version = Object.keys(schemas ?? {}).at(-1) ?? "") {
	return member(text, "schemas", version, "examples", 0) ?? member(text, "schemas", version, "example");
}

/** @type {View} */
export function eventType(context) {
	const { api, signal, params, portal, act, redraw } = context;
	const ask = () => api.call("GET", path`event-type/${params.type}`, { signal });
	return load(signal, ask, ({ data: type, text }) => {
		const schemas = type.schemas ? member(text, "schemas") : "";
		const versions = Object.keys(type.schemas ?? {}).reverse();
		return [
			head(
				[type.name, " ", stateOf(type)],
				[link("Event types", href(["event-type" + (portal ? "s" : "")]))],
				portal
					? goes("Messages of this type", href(["messages"], { event_types: type.name }))
					: goes("Send a message", href(["send"], { type: type.name })),
				act("administer", "Change", () => edit(api, type, schemas, redraw), { kind: "main" }),
			),
			type.deprecated && note(h("p", "Deprecated: it may no longer be sent one day.")),
			h("p", type.description),
			muted("Changed ", when(type.updatedAt)),
			versions.length === 0 && empty("Its fields are not described. The content of a message shows them."),
			versions.map((version) => {
				const schema = type.schemas[version], shown = example(text, type, version);
				const of = versions.length > 1 ? `, version ${version}` : "";
				return columns(
					section(
						`Fields${of}`,
						schema.description && h("p", schema.description),
						tree(schema, schema, []) ?? empty("The schema names no fields."),
						h("details", h("summary", "As JSON Schema"), copied(member(text, "schemas", version), "Schema")),
					),
					section(
						`Example${of}`,
						shown
							? copied(shown, "Example")
							: empty("None: the first entry of ", h("code", "examples"), " would be one."),
					),
				);
			}),
		];
	});
}

/** A schema that is meant by references within the document. */
function resolve(schema, root) {
	for (let turn = 0; turn < 8 && typeof schema?.$ref === "string"; turn++) {
		if (!schema.$ref.startsWith("#/")) return {};
		const plain = (step) => decodeURIComponent(step).replaceAll("~1", "/").replaceAll("~0", "~");
		schema = schema.$ref.slice(2).split("/").map(plain).reduce((at, step) => at?.[step], root);
	}
	return typeof schema === "object" && schema !== null ? schema : {};
}

const listed = (value) => Array.isArray(value) ? value : [];

/** The fields of an object, and theirs. `above` are the schemas that it is in: a type that contains itself ends there. @returns {HTMLElement | null} */
function tree(given, root, above) {
	const schema = resolve(given, root);
	if (above.includes(schema) || above.length > 12) return null;
	const within = [...above, schema];
	if (schema.items && !Array.isArray(schema.items)) return tree(schema.items, root, within);
	const parts = [schema, ...listed(schema.allOf).map((part) => resolve(part, root))];
	const fields = parts.flatMap(({ properties, required }) =>
		Object.entries(properties ?? {}).map(([name, field]) =>
			item(name, field, listed(required).includes(name), root, within)
		)
	);
	const choices = [...listed(schema.oneOf), ...listed(schema.anyOf)];
	const either = choices.map((choice, i) => item(`either ${i + 1}`, choice, false, root, within));
	return fields.length + either.length ? h("ul.tree", fields, either) : null;
}

function item(name, given, required, root, above) {
	const field = resolve(given, root);
	const text = given.description ?? field.description ?? field.title;
	const rules = RULES.map((name) => field[name] !== undefined && `${name} ${field[name]}`);
	const json = (word, value) =>
		value !== undefined && `${word} ${[value].flat().map((it) => JSON.stringify(it)).join(", ")}`;
	const all = [kind(field, root), required && "required", json("one of", field.enum), ...rules];
	return h(
		"li",
		h("strong.mono", name),
		" ",
		h("span.muted", [...all, json("default", field.default)].filter(Boolean).join(" · ")),
		text && h("p", text),
		above.includes(field) ? muted("the same fields as above") : tree(field, root, above),
	);
}

function kind(field, root) {
	if (field.const !== undefined) return `always ${JSON.stringify(field.const)}`;
	if (field.items) return `list of ${kind(resolve(field.items, root), root)}`;
	return [field.type].flat().filter(Boolean).join(" or ") || (field.properties ? "object" : field.enum ? "" : "any");
}

const RULES = ["format", "minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems", "pattern"];
