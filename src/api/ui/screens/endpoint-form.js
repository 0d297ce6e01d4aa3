/**
 * What endpoints of applications and of operational webhooks have in common: their settings, secrets and
 * custom headers.
 *
 * @module
 */

import { fill, h } from "../dom.js";
import { table } from "../list.js";
import {
	action,
	ask,
	copy,
	facts,
	field,
	form,
	input,
	load,
	mono,
	say,
	section,
	show,
	when,
} from "../parts.js";
import { go } from "../route.js";
import { asking } from "./shared.js";

/** @typedef {import("../console.js").Context} Context */

const words = (text) => {
	const found = text.split(/[\s,]+/).filter(Boolean);
	return found.length ? found : null;
};

/**
 * The fields of an endpoint. `read` makes the body of a request of them.
 *
 * @param {any} [values] an endpoint
 * @param {{operational?: boolean}} [options]
 */
export function endpointFields(values = {}, { operational } = {}) {
	const url = input({
		type: "url",
		required: true,
		value: values.url ?? "",
		placeholder: "https://example.com/webhooks",
	});
	const description = input({ value: values.description ?? "" });
	const uid = input({ value: values.uid ?? "" });
	const types = input({ value: (values.eventTypes ?? values.filterTypes ?? []).join(", ") });
	const channels = input({ value: (values.channels ?? []).join(", ") });
	const rate = input({ type: "number", min: 1, value: values.throttleRate ?? values.rateLimit ?? "" });
	return {
		node: [
			field("URL", url),
			field("Description", description),
			field("Uid", uid, "An id of your own, which works wherever the id does."),
			field("Event types", types, "Separated by commas. Empty: all."),
			!operational && field("Channels", channels, "Separated by commas. Empty: all."),
			field("Rate, in deliveries a second", rate, "Empty: no limit."),
		],
		read: () => ({
			url: url.value.trim(),
			description: description.value,
			uid: uid.value.trim() || null,
			eventTypes: words(types.value),
			...(operational ? {} : { channels: words(channels.value) }),
			throttleRate: rate.value ? Number(rate.value) : null,
		}),
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
	const { api, may } = context;
	const fields = endpointFields(it, { operational });
	const reason = may("administer"), name = it.uid ?? it.url;
	const save = async () => {
		await write(fields.read());
		say("Saved");
	};
	const remove = asking("Delete", {
		title: `Delete ${name}?`,
		text: "What waits for it is not sent any more. Its attempts stay until their retention ends.",
		typed: it.uid ?? it.id,
		run: () => api.delete(base),
		done: `${name} is deleted`,
		then: () => go(gone),
		reason,
		kind: "danger",
	});
	return h(
		"div",
		{ class: "columns" },
		section("Settings", form({ button: "Save", reason, run: save }, fields.node)),
		h(
			"div",
			section("Signing secret", h("div", { class: "buttons" }, secretActions(context, base, name))),
			section("Custom headers", customHeaders(context, base, operational)),
			section(
				"About",
				facts(["Id", [mono(it.id), " ", copy(it.id, "Id")]], ["Created", when(it.createdAt)], [
					"Changed",
					when(it.updatedAt),
				]),
				remove,
			),
		),
	);
}

/** @param {string} title @param {string} key @param {string} [text] */
export function showSecret(title, key, text) {
	show(
		title,
		h("p", text ?? "The receiver checks the header webhook-signature with it."),
		h("pre", { class: "code" }, key),
		copy(key, "Secret"),
	);
}

/** *Show secret* and *Rotate secret*. */
function secretActions({ api, may }, base, name) {
	const rotate = () => {
		const hours = input({ type: "number", min: 0, max: 168, value: 24, required: true });
		const run = async () => {
			const { key } = await api.post(`${base}/secret/rotate`, {
				gracePeriodSeconds: Number(hours.value) * 3600,
			});
			showSecret(
				"The new signing secret",
				key,
				`Give it to ${name}. Until the period has ended, deliveries are signed with both.`,
			);
		};
		return ask(
			{ title: `Rotate the secret of ${name}?`, button: "Rotate secret", kind: "danger", run },
			field(
				"Hours for which the old one signs, too",
				hours,
				"0: deliveries are refused until the receiver has the new secret.",
			),
		);
	};
	const reason = may("administer");
	return [
		action("Show secret", async () => showSecret("Signing secret", (await api.get(`${base}/secret`)).key), {
			reason,
			about: name,
		}),
		action("Rotate secret", rotate, { reason, about: name }),
	];
}

/** Custom headers: names and values that go out with each delivery. With `whole` all of them are written at once. */
function customHeaders({ api, signal, may }, base, whole = false) {
	const place = h("div");
	const draw = () => load(place, signal, () => api.get(`${base}/headers`, { signal }), shown);
	/** @param {any} all */
	const shown = ({ headers, sensitive }) => {
		const rows = [
			...Object.entries(headers),
			...sensitive.map((name) => [name, "hidden"]),
		];
		const write = async (
			/** @type {Record<string, string>} */ set,
			/** @type {string[]} */ deleteHeaders,
		) => {
			if (whole) {
				const left = Object.fromEntries(
					Object.entries({ ...headers, ...set }).filter(([name]) => !deleteHeaders.includes(name)),
				);
				await api.put(`${base}/headers`, { headers: left });
			} else await api.patch(`${base}/headers`, { headers: set, deleteHeaders });
			say("Custom headers changed");
			draw();
		};
		const name = input({ required: true }), value = input({ required: true });
		const reason = may("administer");
		return [
			rows.length > 0 && h(
				"div",
				{ class: "list" },
				table("Custom headers", [
					["Name", ([name]) => h("span", { class: "mono" }, name)],
					["Value", ([, value]) => h("span", { class: "mono" }, value)],
					[
						"Action",
						([name]) =>
							asking("Remove", {
								title: `Remove the header ${name}?`,
								run: () => write({}, [name]),
								done: "Removed",
								reason,
								about: name,
							}),
						"actions",
					],
				], rows),
			),
			rows.length === 0 &&
			h(
				"p",
				{ class: "muted" },
				"None. What is added here goes out with each delivery, for example an authorization.",
			),
			form(
				{ button: "Add header", reason, run: () => write({ [name.value.trim()]: value.value }, []) },
				field("Name", name),
				field("Value", value),
			),
		];
	};
	draw();
	return fill(place);
}
