/**
 * Sends a test to an endpoint, and shows what became of it.
 *
 * @module
 */

import { answered, attemptState, unfolded } from "../attempts.js";
import { fill, h } from "../dom.js";
import { member } from "../json.js";
import { sleep } from "../live.js";
import { action, field, section, select, state, when } from "../parts.js";
import { eventTypes, limits, messageLink } from "./shared.js";

/** @typedef {import("../portal.js").Context} Context */

const SECONDS = 45;

/** @param {Context} context */
export function testSection(context, endpoint) {
	const { app, api, can } = context;
	if (!can("attempts")) return section("Test", limits(context, "attempts"));
	const type = select([["svix.ping", "svix.ping: a small test message"]]);
	const result = h("div", { class: "result", role: "status" });
	// Only types with an example can be sent; without them the ping is still there.
	eventTypes(context, true).then((types) => {
		const examples = types.filter(({ schemas }) => isObject(schemas?.["1"]?.examples?.[0]));
		type.append(...examples.map(({ name }) => h("option", { value: name }, `${name}: its example`)));
	}).catch(() => {});
	const send = async () => {
		fill(result, h("p", "Sending…"));
		try {
			const { data: message, text } = await api.call("POST", `${app}/endpoint/${endpoint.id}/send-example`, {
				body: { eventType: type.value },
			});
			const attempt = await firstAttempt(context, endpoint.id, message.id, result);
			fill(result, attempt ? outcome(attempt, member(text, "payload") ?? "") : late(message.id));
		} catch (error) {
			fill(result);
			throw error;
		}
	};
	return section(
		"Test",
		h(
			"p",
			"Sends an example to this endpoint alone, signed like every message, and waits for the answer of your server.",
		),
		field("Message", type),
		action("Send test", send, {
			kind: "main",
			reason: endpoint.disabled ? "The endpoint is disabled. Enable it first." : null,
		}),
		endpoint.disabled && h("p", { class: "hint" }, "The endpoint is disabled. Enable it first."),
		result,
	);
	function late(id) {
		return h(
			"p",
			{ class: "note" },
			`There is no answer after ${SECONDS} s. It may still come: see message `,
			messageLink(id),
			".",
		);
	}
}

function isObject(value) {
	return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * Waits for the first attempt of a message.
 *
 * @param {Context} context
 * @param {string} endpoint
 * @param {string} message
 * @param {Element} place says for how long
 */
async function firstAttempt({ api, app, signal }, endpoint, message, place) {
	const began = Date.now();
	while (Date.now() - began < SECONDS * 1000) {
		const query = { endpoint_id: endpoint, limit: 1 };
		const { data } = await api.get(`${app}/attempt/msg/${message}`, { signal, query });
		if (data[0]) return api.get(`${app}/msg/${message}/attempt/${data[0].id}`, { signal });
		const seconds = Math.round((Date.now() - began) / 1000);
		if (seconds > 1) fill(place, h("p", `Sent. Waiting for the answer of your server… ${seconds} s`));
		await sleep(signal, 0.5);
		signal.throwIfAborted();
	}
	return null;
}

function outcome(attempt, payload) {
	const good = attempt.status === 0;
	return [
		h(
			"div",
			{ class: good ? "done" : "note" },
			h("p", state(attemptState(attempt)), ` ${answered(attempt)}`),
			h("p", good ? "Your server has accepted the test." : advice(attempt)),
			attempt.nextAttempt && h("p", "It is sent again at ", when(attempt.nextAttempt), "."),
		),
		h("details", h("summary", "Details"), unfolded(attempt, payload)),
		h("p", "Message ", messageLink(attempt.msgId)),
	];
}

/** What a person can do about an attempt that failed. */
export function advice({ responseStatusCode: code, response }) {
	if (code >= 300 && code < 400) {
		return "Redirects are not followed. Enter the address that your server redirects to.";
	}
	if (code === 401 || code === 403) {
		return "Your server refused the request. Exempt this address from sign-in, and check how it verifies the signature.";
	}
	if (code === 404 || code === 405) return "Your server has nothing for POST at this address. Check the URL.";
	if (code === 410) return "Status 410 says that the endpoint is gone, so it is disabled.";
	if (code >= 500) return "Your server met an error. Its own log tells more.";
	if (code) return "Only a status from 200 to 299 counts as delivered.";
	if (/time/i.test(response)) return "Your server took too long. Answer first, and do the work afterwards.";
	return "Your server was not reached. Check the address, and whether it may be called from the internet.";
}
