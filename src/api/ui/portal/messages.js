/** The portal's list of messages: found by id, event id, tag, type and time. */

import { path } from "../api.js";
import { fill, h } from "../dom.js";
import { filteredList, PERIOD } from "../list.js";
import { empty, failure, input, link, when } from "../parts.js";
import { go, parse, setQuery } from "../route.js";
import { head, noneMatches } from "../screens/shared.js";

/** @param {Context} context */
export function messages(context) {
	const { app, to } = context;
	const problem = h("div", { role: "status" });
	const find = input({
		type: "search",
		id: "find",
		"aria-label": "Find",
		placeholder: "Find: message id, event id or tag",
		maxlength: 256,
	});
	const onsubmit = async (/** @type {Event} */ event) => {
		event.preventDefault();
		const text = find.value.trim();
		fill(problem);
		try {
			if (text) await seek(context, text);
		} catch (error) {
			const gone = /** @type {any} */ (error).status === 404;
			fill(problem, gone ? empty(`No message has the id, the event id or the tag ${text}.`) : failure(error));
		}
	};
	const { nodes } = filteredList(context, {
		caption: "Messages, newest first",
		noun: "messages",
		from: `${app}/msg?with_content=false`,
		refresh: 2,
		columns: [
			["Message", (row) => link(row.eventId ?? row.id, to.message(row.id), { class: "mono" })],
			["Event type", (row) => link(row.eventType, to.type(row.eventType)), "wide"],
			["Tags", (row) => row.tags?.join(", ")],
			["Accepted", (row) => when(row.timestamp)],
		],
		empty: () =>
			parse().query.size ? noneMatches("message") : h("p", "No message yet. They appear as something happens."),
		filters: [{ name: "event_types", label: "Event type" }, { name: "tag", label: "Tag" }, ...PERIOD],
	});
	const search = h("form.buttons.bar", { role: "search", onsubmit }, find, h("button", { type: "submit" }, "Search"));
	return h("div", head("Messages", []), h("section", search, problem, nodes));
}

/** Goes to the message with this id, or shows those with this tag. */
async function seek({ get, app, to }, text) {
	const tagged = await get(`${app}/msg`, { tag: text, limit: 1, with_content: false });
	if (tagged.data.length) return setQuery({ tag: text, event_types: "", after: "", before: "" });
	go(to.message((await get(app + path`/msg/${text}`, { with_content: false })).id));
}
