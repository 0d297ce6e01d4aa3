/** How deliveries and their attempts are put in words, and what is kept of an attempt. */

import { h } from "./dom.js";
import { code } from "./json.js";
import { ago, buttons, copy, duration, facts, mono, muted, when } from "./parts.js";

/** A sentence of the server, its instants in local time. */
export function sentence(text) {
	return h("span", text.split(/(\d{4}-\d\d-\d\dT[\d:.]+Z)/).map((part, i) => i % 2 ? when(part) : part));
}

export function word(verdict) {
	return verdict === "notSent" ? "not sent" : verdict;
}

/** The last answer in words. */
export function lastAnswer({ lastStatusCode, lastError }) {
	return lastStatusCode ? `status ${lastStatusCode}` : lastError ? words(lastError) : "–";
}

/** @type {[RegExp, string][]} */
const KNOWN = [
	[/Connection refused/, "connection refused: nothing listens at that address"],
	[/dns|resolve|lookup/i, "the host name is not known"],
	[/certificate|tls|ssl/i, "the certificate or the TLS handshake failed"],
	[/reset by peer|closed before/i, "the receiver closed the connection before it answered"],
];

/** Why no answer came, in the words of people who are not programmers. */
function words(text) {
	return KNOWN.find(([pattern]) => pattern.test(text))?.[1] ?? text;
}

/** A text quoted for a shell. */
export function quoted(text) {
	return `'${text.replaceAll("'", `'\\''`)}'`;
}

export function answered({ responseStatusCode, responseDurationMs, response, error }) {
	const took = duration(responseDurationMs);
	return responseStatusCode
		? `status ${responseStatusCode} in ${took}`
		: `${error?.text ?? (words(response) || "no answer")} (after ${took})`;
}

export function attemptState({ status }) {
	return ["delivered", "waiting", "failed", "sending"][status];
}

export function trigger({ triggerType }) {
	return triggerType === 1 ? "by hand" : "schedule";
}

const PHASES = /** @type {Record<string, string>} */ ({ tls: "TLS", firstByte: "first byte" });

/** What is kept of an attempt. */
export function unfolded(attempt, payload) {
	const { error, response } = attempt;
	const phases = Object.entries(attempt.phasesMs ?? {}).filter(([, ms]) => ms !== null)
		.map(([phase, ms]) => `${PHASES[phase] ?? phase} ${duration(ms)}`).join(" · ");
	const body = response ? [code(response, "Answer"), buttons(copy(response, "Answer"))] : muted("The body was empty.");
	return h(
		"div.unfolded",
		facts(
			["Attempt", mono(attempt.id)],
			["Sent to", mono(attempt.url)],
			attempt.peer && ["Address", mono(attempt.peer)],
			error && ["Error", `${error.text} (${error.phase})`],
			phases && ["Phases", phases],
			+new Date(attempt.nextAttempt) > Date.now() && ["Next try", ago(attempt.nextAttempt)],
		),
		attempt.responseStatusCode
			? [h("h3", "Answer"), body]
			: !error && response && [h("h3", "Error, as the program met it"), h("p.mono", response)],
		headers("Headers of the answer", attempt.responseHeaders),
		headers("Headers that were sent", attempt.requestHeaders),
		payload &&
			buttons(
				copy(() => curl(attempt, payload), "Command", "Copy as curl"),
				h("span.hint", "Sends the same body, without a valid signature."),
			),
	);
}

function headers(title, all = {}) {
	const text = Object.entries(all ?? {}).map((header) => header.join(": ")).join("\n");
	return text && [h("h3", title), code(text, title)];
}

function curl({ requestHeaders, url }, payload) {
	const sent = requestHeaders ?? { "content-type": "application/json" };
	const lines = Object.entries(sent).filter(([name]) => !/^(host|content-length)$/i.test(name))
		.map((header) => `-H ${quoted(header.join(": "))}`);
	return ["curl -X POST", quoted(url), ...lines, `--data-raw ${quoted(payload)}`].join(" \\\n  ");
}
