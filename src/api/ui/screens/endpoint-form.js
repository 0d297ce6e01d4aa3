/** What endpoints, operational endpoints and pollers have in common: fields, secret, headers. */

import { path } from "../api.js";
import { fill, h } from "../dom.js";
import { load, refresh, table } from "../list.js";
import {
	action,
	ask,
	buttons,
	columns,
	copy,
	field,
	fieldsOf,
	form,
	hint,
	input,
	mono,
	muted,
	say,
	section,
	select,
} from "../parts.js";
import { go } from "../route.js";
import { about, limits } from "./shared.js";

/** The fields of an endpoint, as those of `fieldsOf`. @param {Context} context */
export function endpointFields(context, values = /** @type {any} */ ({}), kind = "") {
	const { portal } = context;
	const { nodes, read } = fieldsOf(
		values,
		kind !== "poller" &&
			["url", "URL", portal && "Messages are sent there by POST. Your server answers with a status from 200 to 299.", {
				type: "url",
				required: true,
				placeholder: "https://example.com/webhooks",
			}],
		["description", "Description", portal && "For yourself, such as Production. May stay empty."],
		!portal && ["uid", "Uid", "An id of your own, which works wherever the id does."],
		!portal && ["eventTypes", "Event types", "Separated by commas. Empty: all.", { type: "words" }],
		!portal && kind !== "operational" &&
			["channels", "Channels", "Separated by commas. Empty: all.", { type: "words" }],
		!portal && kind !== "poller" &&
			["throttleRate", "Rate, in deliveries a second", "Empty: no limit.", { type: "number", min: 1 }],
	);
	const types = portal && pickTypes(context, values.eventTypes);
	return {
		nodes: [nodes, types && types.node],
		read: () => {
			const body = read();
			return { ...body, description: body.description ?? "", ...(types && { eventTypes: types.read() }) };
		},
	};
}

/** Adds an endpoint to an application, and shows its secret at once. @param {Context} context */
export function addEndpoint(context, app, then = ({ id }) => go(`${context.to.endpoint(id, "setup")}?new=1`)) {
	const { nodes, read } = endpointFields(context);
	const run = async () => then(await context.api.post(path`app/${app}/endpoint`, read()));
	ask({ title: "Add an endpoint", button: "Add endpoint", run }, nodes);
}

/** A choice of event types from their catalogue. */
function pickTypes({ api, signal }, chosen) {
	/** @type {HTMLInputElement[] | undefined} */
	let boxes;
	const draw = ({ data }) => {
		const known = new Map(chosen?.map((name) => [name, "No longer in the list of event types."]));
		for (const { name, description } of data) known.set(name, description);
		boxes = [...known.keys()].map((value) => h("input", { type: "checkbox", value, checked: chosen?.includes(value) }));
		const labels = boxes.map((box) =>
			h("label.choice", box, h("span", mono(box.value), h("span.muted", ` ${known.get(box.value)?.slice(0, 200)}`)))
		);
		if (labels.length === 0) return muted("None is registered; the endpoint gets all.");
		const oninput = () => {
			const text = filter.value.trim().toLowerCase();
			for (const label of labels) label.hidden = !label.textContent?.toLowerCase().includes(text);
		};
		const filter = input({ type: "search", "aria-label": "Filter the event types", placeholder: "Filter", oninput });
		return [
			labels.length > 8 && filter,
			h("div.types", { tabindex: 0, role: "group", "aria-label": "Event types" }, labels),
		];
	};
	return {
		node: h(
			"fieldset",
			h("legend", "Event types"),
			hint("None chosen: all, also those that are added later."),
			load(signal, () => api.all("event-type", { signal }), draw),
		),
		read: () => {
			const names = boxes?.filter((box) => box.checked).map((box) => box.value) ?? chosen;
			return names?.length ? names : null;
		},
	};
}

/** The settings of an endpoint; `write` changes them, and `gone` is where one goes after deletion. @param {Context} context */
export function endpointSettings(context, base, it, write, gone, kind = "") {
	const { api, may, portal, nameOf, act } = context;
	const fields = endpointFields(context, it, kind);
	const reason = may("manage"), name = nameOf(it), hidden = portal && !!reason;
	const run = async () => {
		await write(fields.read());
		say("Saved");
	};
	const remove = {
		title: `Delete ${name}?`,
		text: "What waits for it is not sent any more, and it cannot be brought back.",
		typed: portal ? name : it.uid ?? it.id,
		run: () => api.delete(base),
		done: `${name} is deleted`,
		then: () => go(gone),
	};
	return columns(
		!hidden && section("Settings", form({ button: "Save", reason, run }, fields.nodes)),
		h(
			"div",
			!portal && kind !== "poller" && section("Custom headers", customHeaders(context, base, kind !== "")),
			section(
				"About",
				about(
					it,
					hidden && ["Description", it.description || "–"],
					hidden && ["Event types", it.eventTypes?.join(", ") ?? "all"],
				),
				limits(context, "manage"),
				act("manage", "Delete endpoint", remove, { kind: "danger" }),
			),
		),
	);
}

/** The signing secret: shown when asked for, or at once, and replaced. @param {Context} context */
export function secretSection(context, base, open = false) {
	const { api, get, may, act } = context;
	const place = h("div");
	const hide = () => fill(place, act("secret", "Show secret", show));
	const show = async () => {
		const { key } = await get(`${base}/secret`);
		fill(place, buttons(h("code.mono", key), copy(key, "Secret"), action("Hide", hide)));
	};
	const rotate = () => {
		const grace = select([
			["86400", "for 24 hours more"],
			["3600", "for an hour more"],
			["604800", "for 7 days more"],
			["0", "not any more: from now on only the new one"],
		]);
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
		buttons(place, act("rotate", "Rotate secret", rotate)),
		limits(context, "secret", "rotate"),
	);
}

/** Custom headers: names and values that go out with each delivery. With `whole` all of them are written at once. */
function customHeaders({ api, get, signal, may }, base, whole) {
	const reason = may("manage"), path = `${base}/headers`;
	const node = load(signal, () => get(path), ({ headers, sensitive }) => {
		const rows = [...Object.entries(headers), ...sensitive.map((name) => [name, "hidden"])];
		const write = (set, deleteHeaders) => {
			const left = Object.entries({ ...headers, ...set }).filter(([name]) => !deleteHeaders.includes(name));
			const lost = sensitive.filter((name) => whole && !(name in set) && !deleteHeaders.includes(name));
			const run = async () => {
				if (whole) await api.put(path, { headers: Object.fromEntries(left) });
				else await api.patch(path, { headers: set, deleteHeaders });
				say("Custom headers changed");
				refresh(node);
			};
			if (lost.length === 0) return run();
			const text = `All are written at once, and hidden values cannot be: ${lost.join(", ")} will be gone.`;
			ask({ title: "Remove the hidden ones too?", button: "Remove them", kind: "danger", run }, h("p", text));
		};
		const remove = ([name]) => {
			const sure = { title: `Remove the header ${name}?`, run: () => write({}, [name]), done: "Removed" };
			return action("Remove", sure, { reason, about: name });
		};
		const columns = [
			["Name", ([name]) => mono(name)],
			["Value", ([, value]) => mono(value)],
			["Action", remove, "actions"],
		];
		const fields = fieldsOf({}, ["name", "Name", "", { required: true }], ["value", "Value", "", { required: true }]);
		const run = () => {
			const { name, value } = fields.read();
			return write({ [name]: value }, []);
		};
		return [
			rows.length
				? h("div.list", table("Custom headers", columns, rows))
				: muted("None. What is added here goes out with each delivery, for example an authorization."),
			form({ button: "Add header", reason, run }, fields.nodes),
		];
	});
	return node;
}
