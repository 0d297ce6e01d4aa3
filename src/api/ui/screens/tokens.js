/** Tokens of the organization, and the audit log. */

import { h, p } from "../dom.js";
import { code, entries, member } from "../json.js";
import { filtered, list, noneOf, PERIOD } from "../list.js";
import { ago, ask, buttons, copy, fieldsOf, idLink, mono, say, show, when } from "../parts.js";
import { appHref, appLink, endpointHref, head, listScreen } from "./shared.js";

/** @type {View} */
export function tokens(context) {
	const { add, nodes } = tokenList(context, "token", "administer");
	return h("div", head("Tokens", [], add), h("section", nodes));
}

/** The tokens at a path: those of the organization, which have roles, or of a poller. @param {Context} context */
export function tokenList(context, base, right) {
	const { api, who, act } = context, roles = base === "token";
	const edit = (row) => {
		const { nodes, read } = fieldsOf(
			row ?? { role: "viewer" },
			["name", "Name", "What uses it", { required: true, maxlength: 256 }],
			roles && ["role", "Role", "", {
				options: [
					["admin", "admin: everything"],
					["operator", "operator: reads, sends again, enables"],
					["viewer", "viewer: reads"],
					["sender", "sender: sends messages, reads nothing"],
				],
			}],
			["expiresAt", "Expires", "Empty: never.", { type: "datetime-local" }],
		);
		const run = async () => {
			const { token } = await (row ? api.patch(`${base}/${row.id}`, read()) : api.post(base, read()));
			reload();
			if (row) return say("Saved");
			const may = roles ? "may do what its role says." : "can read this poller, and nothing else.";
			show("The token is made", h("p", "It is shown only now. It ", may), h("pre.code", token), copy(token, "Token"));
		};
		const [title, button] = row ? [`Change ${row.name ?? row.id}`, "Save"] : ["Add a token", "Add token"];
		ask({ title, button, run }, nodes);
	};
	const actions = (row) => {
		const name = row.name ?? row.id;
		const revoke = {
			title: `Revoke ${name}?`,
			text: "Programs that use it are refused within 5 seconds.",
			typed: name,
			run: () => api.delete(`${base}/${row.id}`),
			done: `${name} is revoked`,
			then: () => reload(),
		};
		return buttons(
			roles && act(right, "Change", () => edit(row), { about: name }),
			act(right, "Revoke", revoke, { about: name, kind: "danger" }),
		);
	};
	const { nodes, reload } = list(context, {
		caption: "Tokens",
		noun: "tokens",
		from: base,
		columns: [
			["Name", (row) => [row.name ?? mono(row.id), row.id === who.tokenId && " (this session)"]],
			roles && ["Role", (row) => row.role],
			roles && ["By", (row) => mono(row.createdBy)],
			["Made", (row) => when(row.createdAt)],
			["Expires", (row) => row.expiresAt ? when(row.expiresAt) : "never"],
			["Last used", (row) => row.lastUsedAt ? ago(row.lastUsedAt) : "never"],
			["Action", actions, "actions"],
		],
		empty: () => "No token yet.",
	});
	return { nodes, add: act(right, "Add token", () => edit(null), { kind: "main" }) };
}

/** @type {View} */
export function audit(context) {
	const load = async (page, signal) => {
		const { data, text } = await context.api.call("GET", "audit", { signal, query: { ...filtered(), ...page } });
		const texts = entries(member(text, "data") ?? "");
		const part = (row, i, name) => row[name] && member(texts[i][1], name);
		const exact = (row, i) => ({ ...row, before: part(row, i, "before"), after: part(row, i, "after") });
		return { ...data, data: data.data.map(exact) };
	};
	const values = (title, text) => text && [h("p", title), code(text, title)];
	const change = ({ before, after }) =>
		before || after ? h("details", h("summary", "Show"), values("Before", before), values("After", after)) : "–";
	const object = (row) => {
		if (!row.object) return "–";
		const { kind, id } = row.object, application = kind === "application";
		const place = application ? appHref(id) : kind === "endpoint" && row.appId && endpointHref(row.appId, id);
		return [
			`${kind} `,
			place ? idLink(id, place) : mono(id),
			row.appId && !application && h("div", appLink(context, row.appId)),
		];
	};
	const none = p`No change yet. Each write by the API or the command line appears here; messages and reads do not.`;
	return listScreen(context, {
		title: "Audit",
		caption: "Changes, newest first",
		noun: "changes",
		load,
		filters: [["actor", "Actor"], ["operation", "Operation"], ["object", "Object"], ...PERIOD],
		columns: [
			["Time", (row) => when(row.timestamp)],
			["Actor", ({ actor }) => [actor.name ?? actor.kind, h("div.mono.muted", actor.id)]],
			["Operation", (row) => mono(row.operation)],
			["Object", object],
			["Change", change, "wide"],
			["Request", (row) => mono(row.requestId)],
		],
		empty: () => noneOf("change", none),
	});
}
