/**
 * How deliveries and their attempts are put in words, on both pages.
 *
 * @module
 */

import { h } from "./dom.js";
import { code, isJson } from "./json.js";
import { ago, copy, duration, facts, mono, when } from "./parts.js";

/** A sentence of the server, its instants in local time. @param {string} text */
export function sentence(text) {
	const parts = text.split(/(\d{4}-\d\d-\d\dT[\d:.]+Z)/);
	return h("span", ...parts.map((part, i) => i % 2 ? when(part) : part));
}

/** @param {string} verdict */
export function word(verdict) {
	return verdict === "notSent" ? "not sent" : verdict;
}

/** The last answer in words. @param {{lastStatusCode?: number | null, lastError?: string | null}} row */
export function lastAnswer({ lastStatusCode, lastError }) {
	if (lastStatusCode) return `status ${lastStatusCode}`;
	return lastError ? words(lastError) : "–";
}

/** Why no answer came, in the words of people who are not programmers. @param {string} text */
export function words(text) {
	/** @type {[RegExp, string][]} */
	const known = [
		[/Connection refused/, "connection refused: nothing listens at that address"],
		[/dns|resolve|lookup/i, "the host name is not known"],
		[/certificate|tls|ssl/i, "the certificate or the TLS handshake failed"],
		[/reset by peer|closed before/i, "the receiver closed the connection before it answered"],
	];
	return known.find(([pattern]) => pattern.test(text))?.[1] ?? text;
}

/** When the next try is, or nothing. @param {string | null | undefined} iso */
export function nextTry(iso) {
	return iso ? ago(iso) : "–";
}

/** A text quoted for a shell. @param {string} text */
export function quoted(text) {
	return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** @param {{responseStatusCode: number, responseDurationMs: number, response: string}} attempt */
export function answered({ responseStatusCode, responseDurationMs, response }) {
	const took = duration(responseDurationMs);
	return responseStatusCode
		? `status ${responseStatusCode} in ${took}`
		: `${words(response) || "no answer"} (after ${took})`;
}

/** @param {any} attempt */
export function attemptState({ status }) {
	return status === 0 ? "delivered" : status === 2 ? "failed" : status === 3 ? "sending" : "waiting";
}

/** What is kept of an attempt. @param {any} attempt @param {string} payload */
export function unfolded(attempt, payload) {
	const phases = Object.entries(attempt.phasesMs ?? {}).filter(([, ms]) => ms !== null)
		.map(([phase, ms]) => `${PHASES[phase] ?? phase} ${duration(ms)}`).join(" · ");
	return h(
		"div",
		{ class: "unfolded" },
		facts(
			["Attempt", mono(attempt.id)],
			["Sent to", mono(attempt.url)],
			attempt.peer && ["Address", mono(attempt.peer)],
			attempt.error && ["Error", `${attempt.error.text} (${attempt.error.phase})`],
			phases && ["Phases", phases],
			+new Date(attempt.nextAttempt) > Date.now() && ["Next try", nextTry(attempt.nextAttempt)],
		),
		attempt.responseStatusCode
			? [
				h("h3", "Answer"),
				attempt.response ? answer(attempt.response) : h("p", { class: "muted" }, "The body was empty."),
			]
			: !attempt.error && attempt.response &&
				[h("h3", "Error, as the program met it"), h("p", { class: "mono" }, attempt.response)],
		headers("Headers of the answer", attempt.responseHeaders),
		headers("Headers that were sent", attempt.requestHeaders),
		payload &&
			h(
				"div",
				{ class: "buttons" },
				copy(() => curl(attempt, payload), "Command", "Copy as curl"),
				h("span", { class: "hint" }, "Sends the same body, without a valid signature."),
			),
	);
}
const PHASES =
	/** @type {Record<string, string>} */ ({ connect: "connect", tls: "TLS", firstByte: "first byte" });

/** @param {string} text */
function answer(text) {
	return [
		code(text, "Answer", { indent: isJson(text) }),
		h("div", { class: "buttons" }, copy(text, "Answer")),
	];
}

/** @param {string} title @param {any} all */
function headers(title, all) {
	const rows = Object.entries(all ?? {});
	if (rows.length === 0) return null;
	return [
		h("h3", title),
		h(
			"pre",
			{ class: "code", tabindex: 0, role: "region", "aria-label": title },
			rows.map(([name, value]) => `${name}: ${value}`).join("\n"),
		),
	];
}

/** @param {any} attempt @param {string} payload */
function curl(attempt, payload) {
	const sent = attempt.requestHeaders ?? { "content-type": "application/json" };
	const lines = Object.entries(sent).filter(([name]) => !/^(host|content-length)$/i.test(name))
		.map(([name, value]) => `-H ${quoted(`${name}: ${value}`)}`);
	return ["curl -X POST", quoted(attempt.url), ...lines, `--data-raw ${quoted(payload)}`].join(" \\\n  ");
}
