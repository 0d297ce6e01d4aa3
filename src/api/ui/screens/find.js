/** Find: anything by any of its names. A single thing is opened at once. */

import { h, p } from "../dom.js";
import { list } from "../list.js";
import { idLink, link, mono, note } from "../parts.js";
import { goInstead, href } from "../route.js";
import { appHref, endpointHref, head, messageHref } from "./shared.js";

/** Kinds and ways of finding that are not words. */
const WORDS = { eventType: "event type", task: "background task", eventId: "event id" };

const PLACES = {
	application: ({ id }) => appHref(id),
	endpoint: ({ appId, id }) => endpointHref(appId, id),
	poller: ({ appId, id }) => href(["app", appId, "poller", id]),
	message: ({ appId, id }) => messageHref(appId, id),
	attempt: ({ appId, msgId, id }) => messageHref(appId, msgId, { attempt: id }),
	eventType: ({ id }) => href(["event-type", id]),
	task: ({ id }) => href(["task", id]),
};
const place = (found) => PLACES[found.kind](found);

/** @type {View} */
export function find(context) {
	const { api, query } = context;
	const q = query.get("q") ?? "";
	const box = /** @type {any} */ (document.getElementById("find"));
	if (box) box.value = q;
	const truncated = note(
		"There may be more: the newest 1,000 applications are searched, for at most 50 things of a kind.",
	);
	const load = async (_page, signal) => {
		const { data, truncated: more } = await api.get("find", { query: { q }, signal });
		truncated.hidden = !more;
		if (data.length === 1 && !more) goInstead(place(data[0]));
		return { data, iterator: null, done: true };
	};
	truncated.hidden = true;
	const { nodes } = list(context, {
		caption: "Found",
		noun: "found",
		key: (row) => row.kind + row.id,
		load,
		columns: [
			["Kind", (row) => WORDS[row.kind] ?? row.kind],
			["Id", (row) => idLink(row.id, place(row))],
			["Its uid", (row) => row.uid ?? "–"],
			["Application", (row) => row.appId ? link(row.appUid ?? row.appId, appHref(row.appId)) : "–"],
			["Found by", (row) => WORDS[row.matched] ?? row.matched],
		],
		empty: () => [
			p`Nothing has ${mono(q)} as its id, uid, event id, tag or name of an event type.`,
			p`Whole texts are compared, not parts of them, and messages are found until their retention ends.`,
			link("Search by name under Applications", href(["app"], { q })),
		],
	});
	return h("div", head(["Found for “", q, "”"]), truncated, h("section", nodes));
}
