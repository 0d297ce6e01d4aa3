/**
 * Event types: their schemas and examples.
 *
 * @module
 */

import { path } from "../api.js";
import { h } from "../dom.js";
import { code, joined, member } from "../json.js";
import {
	action,
	ask,
	copy,
	empty,
	facts,
	field,
	input,
	link,
	load,
	say,
	section,
	state,
	when,
} from "../parts.js";
import { href } from "../route.js";
import { asking, head, listScreen } from "./shared.js";

/** @typedef {import("../console.js").Context} Context */

const stateOf = ({ archived, deprecated }) =>
	state(archived ? "archived" : deprecated ? "deprecated" : "active");

/** @param {Context} context */
export function eventTypes(context) {
	const add = () =>
		action("Add event type", () => edit(context, null, "", () => reload()), {
			kind: "main",
			reason: context.may("administer"),
		});
	const { node, reload } = listScreen(context, {
		title: "Event types",
		actions: add(),
		caption: "Event types",
		noun: "event types",
		from: "event-type?with_content=true",
		key: (row) => row.name,
		filters: [{ name: "include_archived", label: "Archived", options: [["true", "shown"]], none: "hidden" }],
		columns: [
			["Name", (row) => link(row.name, href(["event-type", row.name]))],
			["State", stateOf],
			["Description", (row) => row.description, "wide"],
			["Schema", (row) => row.schemas ? `version ${Object.keys(row.schemas).join(", ")}` : "none"],
			["Changed", (row) => when(row.updatedAt)],
		],
		empty: () => [
			h(
				"p",
				"No event type yet. Messages may have any; one that is registered here has a description, a schema and an example for your customers, and endpoints can ask for it alone.",
			),
			add(),
		],
	});
	return node;
}

/** Makes an event type, or changes one. */
function edit({ api }, type, schemas, then) {
	const name = input({ required: true, value: type?.name ?? "", disabled: !!type });
	const description = input({ required: true, value: type?.description ?? "" });
	const text = h("textarea", { class: "mono", rows: 12, spellcheck: "false", value: schemas });
	const old = input({ type: "checkbox", checked: type?.deprecated });
	const run = async () => {
		const body = joined(
			{
				...(type ? {} : { name: name.value.trim() }),
				description: description.value,
				deprecated: old.checked,
			},
			"schemas",
			text.value.trim() || "null",
		);
		await (type ? api.patch(path`event-type/${type.name}`, body) : api.post("event-type", body));
		say("Saved");
		then();
	};
	return ask(
		{ title: type ? `Change ${type.name}` : "Add an event type", button: "Save", run },
		field("Name", name, "For example order.paid"),
		field("Description", description),
		field(
			"Schemas",
			text,
			'JSON: a JSON Schema for each version, {"1": {"type": "object", "examples": [{}]}}. Empty: none.',
		),
		field("Deprecated", old),
	);
}

/** The text of the newest example in the text of an event type. @param {string} text @param {any} type */
export function example(text, { schemas }) {
	const version = Object.keys(schemas ?? {}).at(-1);
	return version === undefined ? undefined : member(text, "schemas", version, "examples", 0);
}

/** @param {Context} context */
export function eventType(context) {
	const { api, signal, params, title, may } = context;
	const base = path`event-type/${params.name}`;
	title(params.name);
	const place = h("div"), reason = may("administer");
	const draw = () =>
		load(place, signal, () => api.call("GET", base, { signal }), ({ data: type, text }) => {
			const schemas = type.schemas ? member(text, "schemas") ?? "" : "", shown = example(text, type);
			const restore = async () => {
				await api.patch(base, { archived: false });
				say("Restored");
				draw();
			};
			return [
				head(
					[type.name, " ", stateOf(type)],
					[link("Event types", href(["event-type"]))],
					link("Send a message", href(["send"], { type: type.name }), { class: "button" }),
					type.archived ? action("Restore", restore, { reason }) : asking("Archive", {
						title: `Archive ${type.name}?`,
						text: "Endpoints cannot ask for it any more. Messages of this type are accepted as before.",
						run: () => api.patch(base, { archived: true }),
						done: "Archived",
						then: draw,
						reason,
					}),
					action("Change", () => edit(context, type, schemas, draw), { reason, kind: "main" }),
				),
				section("About", h("p", type.description), facts(["Changed", when(type.updatedAt)])),
				h(
					"div",
					{ class: "columns" },
					section(
						"Example",
						shown ? [code(shown, "Example", { indent: true }), copy(shown, "Example")] : empty(
							"No example. The first entry of ",
							h("span", { class: "mono" }, "examples"),
							" in its schema is one.",
						),
					),
					section(
						"Schema",
						schemas
							? [code(schemas, "Schema", { indent: true }), copy(schemas, "Schema")]
							: empty("No schema. ", h("i", "Change"), " adds one."),
					),
				),
			];
		});
	draw();
	return place;
}
