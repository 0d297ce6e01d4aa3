/** What an endpoint of an application and one of operational webhooks have in common: fields, secret, headers. */

import { fill, h } from "../dom.js";
import { table } from "../list.js";
import {
	action,
	ask,
	buttons,
	columns,
	confirming,
	copy,
	field,
	form,
	input,
	load,
	mono,
	muted,
	say,
	section,
	select,
	words,
} from "../parts.js";
import { go } from "../route.js";
import { about, limits, nameOf, permitted } from "./shared.js";

/**
 * The fields of an endpoint. `read` makes the body of a request of them.
 *
 * @param {Context} context
 * @param {any} [values] an endpoint
 * @param {{operational?: boolean}} [options]
 */
export function endpointFields(context, values = {}, { operational } = {}) {
	const { portal } = context;
	const text = (name, attributes) => input({ value: values[name] ?? "", ...attributes });
	const url = text("url", {
		type: "url",
		required: true,
		maxlength: 4096,
		placeholder: "https://example.com/webhooks",
	});
	const description = text("description", { maxlength: 1024 });
	const uid = text("uid"), rate = text("throttleRate", { type: "number", min: 1 });
	const channels = text("channels", { value: (values.channels ?? []).join(", ") });
	const types = portal ? pickTypes(context, values.eventTypes) : typeTypes(values.eventTypes);
	return {
		node: [
			field(
				"URL",
				url,
				portal && "Messages are sent there by POST. Your server answers with a status from 200 to 299.",
			),
			field("Description", description, portal && "For yourself, such as Production. May stay empty."),
			!portal && field("Uid", uid, "An id of your own, which works wherever the id does."),
			types.node,
			!portal && !operational && field("Channels", channels, "Separated by commas. Empty: all."),
			!portal && field("Rate, in deliveries a second", rate, "Empty: no limit."),
		],
		read: () => ({
			url: url.value.trim(),
			description: description.value,
			eventTypes: types.read(),
			...(!portal && { uid: uid.value.trim() || null, throttleRate: rate.value ? Number(rate.value) : null }),
			...(!portal && !operational && { channels: words(channels.value) }),
		}),
	};
}

function typeTypes(chosen) {
	const control = input({ value: (chosen ?? []).join(", ") });
	return { node: field("Event types", control, "Separated by commas. Empty: all."), read: () => words(control.value) };
}

/** A choice of event types from their catalogue. @param {Context} context @param {string[] | null} [chosen] */
function pickTypes({ api, signal }, chosen = null) {
	/** @type {HTMLInputElement[]} */
	let boxes = [];
	const radio = (some) =>
		h("input", { type: "radio", name: "which", checked: some === !!chosen, onchange: () => (types.hidden = !some) });
	const all = radio(false), some = radio(true);
	const draw = ({ data }) => {
		const known = new Map((chosen ?? []).map((name) => [name, "No longer in the list of event types."]));
		for (const { name, description } of data) known.set(name, description);
		boxes = [...known.keys()].map((value) => h("input", { type: "checkbox", value, checked: chosen?.includes(value) }));
		const labels = boxes.map((box) =>
			h("label.choice", box, h("span", mono(box.value), h("span.muted", ` ${known.get(box.value)?.slice(0, 200)}`)))
		);
		const oninput = () => {
			const text = filter.value.trim().toLowerCase();
			for (const label of labels) label.hidden = !label.textContent?.toLowerCase().includes(text);
		};
		const name = "Filter the event types";
		const filter = input({ type: "search", class: "filter", "aria-label": name, placeholder: "Filter", oninput });
		return [
			labels.length === 0 && h("p.hint", "The list of event types is empty: there is nothing to choose from yet."),
			labels.length > 8 && filter,
			h("div.types", { tabindex: 0, role: "group", "aria-label": "Event types" }, labels),
		];
	};
	const types = load(signal, () => api.all("event-type", { signal }), draw);
	types.hidden = !chosen;
	return {
		node: h(
			"fieldset",
			h("legend", "Event types"),
			h("label.choice", all, "All event types, also those that are added later"),
			h("label.choice", some, "Only these"),
			types,
		),
		read: () => {
			if (!some.checked) return null;
			const names = boxes.filter((box) => box.checked).map((box) => box.value);
			if (names.length === 0) throw new Error("Choose at least one event type, or all of them.");
			return names;
		},
	};
}

/**
 * The settings of an endpoint, with its secret, custom headers and deletion.
 *
 * @param {Context} context
 * @param {string} base
 * @param {any} it
 * @param {{operational?: boolean, write: (body: any) => Promise<unknown>, gone: string}} options `gone`: where one goes after deletion
 */
export function endpointSettings(context, base, it, { operational, write, gone }) {
	const { api, may, portal, query } = context;
	const fields = endpointFields(context, it, { operational });
	const reason = may("manage"), name = nameOf(context, it), hidden = portal && !!reason;
	const run = async () => {
		await write(fields.read());
		say("Saved");
	};
	const remove = confirming("Delete endpoint", {
		title: `Delete ${name}?`,
		text: "What waits for it is not sent any more, and it cannot be brought back.",
		typed: portal ? name : it.uid ?? it.id,
		run: () => api.delete(base),
		done: `${name} is deleted`,
		then: () => go(gone),
	});
	return columns(
		!hidden && section("Settings", form({ button: "Save", reason, run }, fields.node)),
		h(
			"div",
			!portal && secretSection(context, base, query.has("new")),
			!portal && section("Custom headers", customHeaders(context, base, operational)),
			section(
				"About",
				about(
					it,
					hidden && ["Description", it.description || "–"],
					hidden && ["Event types", it.eventTypes?.join(", ") ?? "all"],
				),
				limits(context, "manage"),
				permitted(context, "manage", "Delete endpoint", remove, { kind: "danger" }),
			),
		),
	);
}

const GRACE = /** @type {[string, string][]} */ ([
	["86400", "for 24 hours more"],
	["3600", "for an hour more"],
	["604800", "for 7 days more"],
	["0", "not any more: from now on only the new one"],
]);

/** The signing secret: shown when asked for, and replaced. @param {Context} context @param {string} base the path of the endpoint @param {boolean} [open] shows it at once */
export function secretSection(context, base, open) {
	const { api, get, may } = context;
	const place = h("div");
	const hide = () => fill(place, permitted(context, "secret", "Show secret", show));
	const show = async () => {
		const { key } = await get(`${base}/secret`);
		fill(place, h("div.buttons.secret", h("code.mono", key), copy(key, "Secret"), action("Hide", hide)));
	};
	const rotate = () => {
		const grace = select(GRACE, "86400");
		const run = async () => {
			await api.post(`${base}/secret/rotate`, { gracePeriodSeconds: Number(grace.value) });
			say("The secret was replaced");
			await show();
		};
		ask(
			{ title: "Replace the signing secret?", button: "Rotate secret", kind: "danger", run },
			h("p", "Put the new secret into the receiving server before the old one ends, or its checks will fail."),
			field("The old secret goes on signing too", grace),
		);
	};
	hide();
	if (open && !may("secret")) show().catch(() => {});
	return section(
		"Signing secret",
		h("p", "Each message is signed with it, in webhook-signature, so that its receiver can check who sent it."),
		buttons(place, permitted(context, "rotate", "Rotate secret", rotate)),
		limits(context, "secret", "rotate"),
	);
}

/** Custom headers: names and values that go out with each delivery. With `whole` all of them are written at once. */
function customHeaders({ api, get, signal, may }, base, whole) {
	const reason = may("manage");
	return load(signal, () => get(`${base}/headers`), ({ headers, sensitive }, again) => {
		const rows = [...Object.entries(headers), ...sensitive.map((name) => [name, "hidden"])];
		const write = async (set, /** @type {string[]} */ deleteHeaders) => {
			const left = Object.entries({ ...headers, ...set }).filter(([name]) => !deleteHeaders.includes(name));
			await (whole
				? api.put(`${base}/headers`, { headers: Object.fromEntries(left) })
				: api.patch(`${base}/headers`, { headers: set, deleteHeaders }));
			say("Custom headers changed");
			await again();
		};
		const remove = ([name]) =>
			action(
				"Remove",
				confirming("Remove", { title: `Remove the header ${name}?`, run: () => write({}, [name]), done: "Removed" }),
				{ reason, about: name },
			);
		const name = input({ required: true }), value = input({ required: true });
		const run = () => write({ [name.value.trim()]: value.value }, []);
		return [
			rows.length
				? h(
					"div.list",
					table("Custom headers", [
						["Name", ([name]) => mono(name)],
						["Value", ([, value]) => mono(value)],
						["Action", remove, "actions"],
					], rows),
				)
				: muted("None. What is added here goes out with each delivery, for example an authorization."),
			form({ button: "Add header", reason, run }, field("Name", name), field("Value", value)),
		];
	});
}
