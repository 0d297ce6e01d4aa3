/**
 * Find: anything by any of its names. A single thing is opened at once.
 *
 * @module
 */

import { h } from "../dom.js";
import { list } from "../list.js";
import { link } from "../parts.js";
import { go, href } from "../route.js";
import { appHref, appLink, endpointHref, head, messageHref } from "./shared.js";

/** @typedef {import("../console.js").Context} Context */

const KINDS = /** @type {Record<string, string>} */ ({ eventType: "event type", task: "background task" });
const MATCHED = /** @type {Record<string, string>} */ ({ eventId: "event id" });

function place(found) {
	switch (found.kind) {
		case "application":
			return appHref(found.id);
		case "endpoint":
			return endpointHref(found.appId, found.id);
		case "message":
			return messageHref(found.appId, found.id);
		case "attempt":
			return messageHref(found.appId, found.msgId, { attempt: found.id });
		case "eventType":
			return href(["event-type", found.id]);
		default:
			return href(["task", found.id]);
	}
}

/** @param {Context} context */
export function find(context) {
	const { api, signal, query, title } = context;
	const q = query.get("q") ?? "";
	title(`Find ${q}`);
	const box = /** @type {HTMLInputElement | null} */ (document.getElementById("find"));
	if (box) box.value = q;
	const truncated = h(
		"p",
		{ class: "note", hidden: true },
		"There may be more: only the newest 1,000 applications are searched, and each way of searching returns at most 50 things.",
	);
	const { node } = list({
		caption: "Found",
		noun: "found",
		signal,
		key: (row) => row.kind + row.id,
		load: async (_page, signal) => {
			const found = await api.get("find", { query: { q }, signal });
			truncated.hidden = !found.truncated;
			if (found.data.length === 1 && !found.truncated) go(place(found.data[0]), { replace: true });
			return { data: found.data, iterator: null, done: true };
		},
		columns: [
			["Kind", (row) => KINDS[row.kind] ?? row.kind],
			["Id", (row) => link(row.id, place(row), { class: "mono" })],
			["Its uid", (row) => row.uid ?? (row.kind === "application" ? row.appUid : null) ?? "–"],
			["Application", (row) => row.appId && row.kind !== "application" ? appLink(context, row.appId) : "–"],
			["Found by", (row) => MATCHED[row.matched] ?? row.matched],
		],
		empty: () => [
			h(
				"p",
				"Nothing has ",
				h("span", { class: "mono" }, q),
				" as its id, uid, event id, tag or name of an event type.",
			),
			h(
				"p",
				"Whole texts are compared, not parts of them. Messages whose retention has ended are gone, and this token sees its own organization alone.",
			),
		],
	});
	return h("div", head(["Found for “", q, "”"], []), truncated, h("section", node));
}
