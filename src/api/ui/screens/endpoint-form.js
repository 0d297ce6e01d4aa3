/**
 * What endpoints of applications and of operational webhooks have in common: their settings, secrets and
 * custom headers.
 *
 * @module
 */

import { fill, h } from "../dom.js";
import { table } from "../list.js";
import { action, ask, copy, field, form, input, load, say, show } from "../parts.js";

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
		url,
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

/** @param {string} title @param {string} key @param {string} [text] */
export function showSecret(title, key, text) {
	show(
		title,
		h("p", text ?? "The receiver checks the header webhook-signature with it."),
		h("pre", { class: "code" }, key),
		copy(key, "Secret"),
	);
}

/** *Show secret* and *Rotate secret*. @param {Context} context @param {string} base of the endpoint @param {string} name */
export function secretActions({ api, may }, base, name) {
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

/** Custom headers: names and values that go out with each delivery. @param {Context} context @param {string} base @param {boolean} [whole] writes all of them at once */
export function customHeaders({ api, signal, may }, base, whole = false) {
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
					["Action", ([name]) =>
						action("Remove", () =>
							ask({
								title: `Remove the header ${name}?`,
								button: "Remove",
								kind: "danger",
								run: () => write({}, [name]),
							}), { reason, about: name }), "actions"],
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
