/** Find: anything by any of its names. A single thing is opened at once. */

import { h, p } from "../dom.js";
import { list } from "../list.js";
import { link, mono, note } from "../parts.js";
import { go, href } from "../route.js";
import { appHref, appLink, endpointHref, head, messageHref } from "./shared.js";

/** How kinds and ways of finding are put in words, where they are not words. */
const WORDS =
	/** @type {Record<string, string>} */ ({ eventType: "event type", task: "background task", eventId: "event id" });

/** @type {Record<string, (found: any) => string>} */
const PLACES = {
	application: ({ id }) => appHref(id),
	endpoint: ({ appId, id }) => endpointHref(appId, id),
	message: ({ appId, id }) => messageHref(appId, id),
	attempt: ({ appId, msgId, id }) => messageHref(appId, msgId, { attempt: id }),
	eventType: ({ id }) => href(["event-type", id]),
	task: ({ id }) => href(["task", id]),
};
const place = (found) => PLACES[found.kind](found);

/** @param {Context} context */
export function find(context) {
	const { api, signal, query } = context;
	const q = query.get("q") ?? "";
	const box = /** @type {HTMLInputElement | null} */ (document.getElementById("find"));
	if (box) box.value = q;
	const truncated = note(
		"There may be more: the newest 1,000 applications are searched, for at most 50 things of a kind.",
	);
	truncated.hidden = true;
	const load = async (_page, signal) => {
		const found = await api.get("find", { query: { q }, signal });
		truncated.hidden = !found.truncated;
		if (found.data.length === 1 && !found.truncated) go(place(found.data[0]), { replace: true });
		return { data: found.data, iterator: null, done: true };
	};
	const { node } = list({
		caption: "Found",
		noun: "found",
		signal,
		key: (row) => row.kind + row.id,
		load,
		columns: [
			["Kind", (row) => WORDS[row.kind] ?? row.kind],
			["Id", (row) => link(row.id, place(row), { class: "mono" })],
			["Its uid", (row) => row.uid ?? (row.kind === "application" ? row.appUid : null) ?? "–"],
			["Application", (row) => row.appId && row.kind !== "application" ? appLink(context, row.appId) : "–"],
			["Found by", (row) => WORDS[row.matched] ?? row.matched],
		],
		empty: () => [
			p`Nothing has ${mono(q)} as its id, uid, event id, tag or name of an event type.`,
			p`Whole texts are compared, not parts of them, and messages are found until their retention ends.`,
		],
	});
	return h("div", head(["Found for “", q, "”"], []), truncated, h("section", node));
}
