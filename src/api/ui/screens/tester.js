/** Sends a test to an endpoint, and shows what became of it. */

import { answered, attemptState, unfolded } from "../attempts.js";
import { fill, h, p } from "../dom.js";
import { member } from "../json.js";
import { sleep } from "../live.js";
import { field, link, note, section, select, state, when } from "../parts.js";
import { samples } from "../portal/samples.js";
import { secretSection } from "./endpoint-form.js";
import { limits } from "./shared.js";

const SECONDS = 45;

/** A choice of messages that can be sent: types without an example cannot. */
function choice({ api, signal }) {
	const type = select([["svix.ping", "svix.ping: a small test message"]]);
	const hasExample = (schema) => schema?.examples?.[0]?.constructor === Object;
	api.all("event-type", { signal, query: { with_content: true } }).then(({ data }) => {
		const found = data.filter(({ schemas }) => Object.values(schemas ?? {}).some(hasExample));
		type.append(...found.map(({ name }) => h("option", { value: name }, `${name}: its example`)));
	}).catch(() => {});
	return type;
}

/** The secret, samples of checks and a test, which is shown here. @param {Context} context */
export function setup(context, it) {
	const { app, query } = context, isNew = query.has("new");
	const added = "The endpoint was added. Put the secret into your server, check the signature there, and send a test.";
	return [
		isNew && h("p.done", added),
		secretSection(context, `${app}/endpoint/${it.id}`, isNew),
		section("Check the signature", ...samples()),
		section("Test", test(context, it)),
	];
}

function test(context, endpoint) {
	const { api, app, to, act } = context;
	const type = choice(context), result = h("div.result", { role: "status" });
	const run = async () => {
		fill(result, h("p", "Sending…"));
		try {
			const body = { eventType: type.value };
			const { data, text } = await api.call("POST", `${app}/endpoint/${endpoint.id}/send-example`, { body });
			const attempt = await firstAttempt(context, endpoint.id, data.id);
			const late = note(`There is no answer after ${SECONDS} s. It may still come.`);
			fill(
				result,
				attempt ? outcome(attempt, member(text, "payload")) : late,
				p`Message ${link(data.id, to.message(data.id))}`,
			);
		} catch (error) {
			fill(result);
			throw error;
		}
	};
	const reason = endpoint.disabled ? "The endpoint is disabled. Enable it first." : null;
	return [
		h("p", "Sends an example to this endpoint alone, and waits for the answer of your server."),
		field("Message", type),
		act("operate", "Send test", run, { kind: "main", reason }) ?? limits(context, "operate"),
		result,
	];
}

/** Waits for the first attempt of a message. */
async function firstAttempt({ get, app }, endpoint, message) {
	const began = Date.now();
	while (Date.now() - began < SECONDS * 1000) {
		const { data: [attempt] } = await get(`${app}/attempt/msg/${message}`, { endpoint_id: endpoint, limit: 1 });
		if (attempt) return get(`${app}/msg/${message}/attempt/${attempt.id}`);
		await sleep(0.5);
	}
	return null;
}

function outcome(attempt, payload) {
	const good = attempt.status === 0;
	return [
		h(
			good ? "div.done" : "div.note",
			h("p", state(attemptState(attempt)), ` ${answered(attempt)}`),
			h("p", good ? "Your server has accepted the test." : advice(attempt)),
			attempt.nextAttempt && p`It is sent again at ${when(attempt.nextAttempt)}.`,
		),
		h("details", h("summary", "Details"), unfolded(attempt, payload)),
	];
}

function advice({ responseStatusCode: code, response, error }) {
	if (code >= 300 && code < 400) return "Redirects are not followed. Enter the address that your server redirects to.";
	if (code === 401 || code === 403) return "Exempt this address from sign-in, and check how it verifies the signature.";
	if (code === 404 || code === 405) return "Your server has nothing for POST at this address. Check the URL.";
	if (code === 410) return "Status 410 says that the endpoint is gone, so it is disabled.";
	if (code >= 500) return "Your server met an error. Its own log tells more.";
	if (code) return "Only a status from 200 to 299 counts as delivered.";
	if (/time|within/i.test(error?.text ?? response)) {
		return "Your server took too long. Answer first, and do the work afterwards.";
	}
	return "Your server was not reached. Check the address, and whether it may be called from the internet.";
}
