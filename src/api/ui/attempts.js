/** How endpoints, deliveries and attempts are put in words, and what is kept of an attempt. */

import { path } from "./api.js";
import { h } from "./dom.js";
import { code } from "./json.js";
import { action, ago, buttons, copy, duration, facts, mono, muted, show, state, when } from "./parts.js";

/** What people call an endpoint, or the one that a row names; customers go by its description. */
export function nameOf(portal, { uid, endpointUid, url, description, endpointId, id }) {
	const title = description?.split("\n", 1)[0].slice(0, 60).trim();
	if (!portal) return (uid ?? endpointUid ?? url ?? title) || endpointId || id;
	const host = URL.canParse(url) ? new URL(url).host : url;
	return title || (description === undefined ? url : host) || uid || id || "this endpoint";
}

/** A sentence of the server, its instants in local time. */
export function sentence(text) {
	return h("span", text.split(/(\d{4}-\d\d-\d\dT[\d:.]+Z)/).map((part, i) => i % 2 ? when(part) : part));
}

export function lastAnswer({ lastStatusCode, lastError }) {
	return lastStatusCode ? `status ${lastStatusCode}` : lastError ?? "–";
}

export function answered({ responseStatusCode: code, responseDurationMs, response, error }) {
	const took = duration(responseDurationMs);
	return code ? `status ${code} in ${took}` : `${error?.text ?? (response || "no answer")} (after ${took})`;
}

export const attemptState = ({ status }) => ["delivered", "waiting", "failed", "sending"][status];

/** The columns of attempts; `other` names message or endpoint, `urlOf` says where it is now. @param {Column} other @returns {Column[]} */
export function attemptColumns(context, other, urlOf, payload = "") {
	return [
		["Time", (row) => when(row.timestamp)],
		other,
		["State", (row) => state(attemptState(row))],
		["Answer", (row) => [answered(row), row.url !== urlOf(row) && h("div.mono.muted", row.url)], "wide"],
		["Trigger", ({ triggerType }) => triggerType === 1 ? "by hand" : "schedule"],
		["Details", (row) => action("Details", () => showAttempt(context, row, payload), { about: row.id }), "actions"],
	];
}

export async function showAttempt({ get, app }, row, payload = "") {
	const full = await get(app + path`/msg/${row.msgId}/attempt/${row.id}`);
	show("Attempt", unfolded({ ...row, ...full }, payload));
}

export function unfolded(attempt, payload) {
	const { error, response, url, requestHeaders = [] } = attempt;
	const names = { tls: "TLS", firstByte: "first byte" };
	const phases = Object.entries(attempt.phasesMs ?? {}).map(([name, ms]) => `${names[name] ?? name} ${duration(ms)}`);
	const repeated = requestHeaders.filter(({ name, value }) => value && !/^(host|content-length)$/i.test(name));
	const options = repeated.map((header) => `-H ${quoted(line(header))}`);
	return h(
		"div.unfolded",
		facts(
			["Attempt", mono(attempt.id)],
			["Sent to", mono(url)],
			attempt.peer && ["Address", mono(attempt.peer)],
			error && ["Error", error.text + (error.phase === "answer" ? "" : ` (${error.phase})`)],
			phases.length > 0 && ["Phases", phases.join(" · ")],
			+new Date(attempt.nextAttempt) > Date.now() && ["Next try", ago(attempt.nextAttempt)],
		),
		attempt.responseStatusCode > 0 && [
			h("h3", "Answer"),
			response ? [code(response, "Answer"), buttons(copy(response, "Answer"))] : muted("The body was empty."),
		],
		headers("Headers of the answer", attempt.responseHeaders),
		headers("Headers that were sent", requestHeaders),
		payload &&
			buttons(
				copy(() => curl(url, options, payload), "Command", "Copy as curl"),
				h("span.hint", "Sends the same body, without a valid signature."),
			),
	);
}

const line = ({ name, value }) => `${name}: ${value ?? "(not shown)"}`;

function headers(title, all) {
	return all?.length > 0 && [h("h3", title), code(all.map(line).join("\n"), title)];
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

export function curl(url, options, body) {
	return [`curl ${quoted(url)}`, ...options, `--data-raw ${quoted(body)}`].join(" \\\n  ");
}
