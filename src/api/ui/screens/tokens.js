/** Tokens of the organization, and the audit log. */

import { path } from "../api.js";
import { h, p } from "../dom.js";
import { code, elements, member } from "../json.js";
import { filtered, PERIOD } from "../list.js";
import {
	action,
	ago,
	ask,
	buttons,
	confirming,
	copy,
	field,
	fromLocalInput,
	input,
	instant,
	link,
	mono,
	note,
	say,
	select,
	show,
	when,
} from "../parts.js";
import { appHref, appLink, endpointHref, head, listScreen, noneMatches } from "./shared.js";

/** @type {[string, string][]} */
const ROLES = [
	["admin", "admin: everything"],
	["operator", "operator: reads, sends again, enables"],
	["viewer", "viewer: reads"],
	["sender", "sender: sends messages, reads nothing"],
];

/** A list for admins alone; it says so to others. @param {Context} context @param {Parameters<typeof listScreen>[1]} options */
function adminList(context, options) {
	const reason = context.may("administer");
	if (!reason) return listScreen(context, options);
	return { node: h("div", head(options.title, []), note(reason)), reload: () => {} };
}

/** @param {Context} context */
export function tokens(context) {
	const { api, who } = context;
	const name = (row) => row.name ?? row.id;
	const revoke = (row) =>
		confirming("Revoke", {
			title: `Revoke ${name(row)}?`,
			text: "Programs that use it are refused within 5 seconds.",
			typed: name(row),
			run: () => api.delete(path`token/${row.id}`),
			done: `${name(row)} is revoked`,
			then: () => reload(),
		});
	const actions = (row) =>
		buttons(
			action("Change", () => edit(context, row, reload), { about: name(row) }),
			action("Revoke", revoke(row), { about: name(row), kind: "danger" }),
		);
	const { node, reload } = adminList(context, {
		title: "Tokens",
		actions: action("Add token", () => edit(context, null, () => reload()), { kind: "main" }),
		caption: "Tokens",
		noun: "tokens",
		from: "token",
		columns: [
			["Name", (row) => [row.name ?? mono(row.id), row.id === who.tokenId && " (this session)"]],
			["Role", (row) => row.role],
			["Made", (row) => when(row.createdAt)],
			["By", (row) => mono(row.createdBy)],
			["Expires", (row) => row.expiresAt ? when(row.expiresAt) : "never"],
			["Last used", (row) => row.lastUsedAt ? ago(row.lastUsedAt) : "never"],
			["Action", actions, "actions"],
		],
		empty: () => "No token.",
	});
	return node;
}

/** Makes a token, or changes one. */
function edit({ api }, token, then) {
	const name = input({ required: true, maxlength: 256, value: token?.name ?? "" });
	const role = select(ROLES, token?.role ?? "viewer");
	const expires = instant({}, token?.expiresAt);
	const run = async () => {
		const body = { name: name.value.trim(), role: role.value, expiresAt: fromLocalInput(expires.value) || null };
		const made = await (token ? api.patch(path`token/${token.id}`, body) : api.post("token", body));
		then();
		if (token) return say("Saved");
		show(
			"The token is made",
			h("p", "It is shown this once. Who has it may do what its role says."),
			h("pre.code", made.token),
			copy(made.token, "Token"),
		);
	};
	const [title, button] = token ? [`Change ${token.name ?? token.id}`, "Save"] : ["Add a token", "Add token"];
	ask(
		{ title, button, run },
		field("Name", name, "What uses it"),
		field("Role", role),
		field("Expires", expires, "Empty: never."),
	);
}

/** @param {Context} context */
export function audit(context) {
	const load = async (page, signal) => {
		const query = { ...filtered(), ...page };
		const { data, text } = await context.api.call("GET", "audit", { signal, query }).catch((error) => {
			throw error.status === 404 ? new Error("This server keeps no audit log.") : error;
		});
		const texts = elements(text, "data");
		const part = (row, i, name) => row[name] && member(texts[i], name);
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
			place ? link(id, place, { class: "mono" }) : mono(id),
			row.appId && !application && h("div", appLink(context, row.appId)),
		];
	};
	return adminList(context, {
		title: "Audit",
		caption: "Changes, newest first",
		noun: "changes",
		load,
		filters: [
			{ name: "actor", label: "Actor" },
			{ name: "operation", label: "Operation" },
			{ name: "object", label: "Object" },
			...PERIOD,
		],
		columns: [
			["Time", (row) => when(row.timestamp)],
			["Actor", ({ actor }) => [actor.name ?? actor.kind, h("div.mono.muted", actor.id)]],
			["Operation", (row) => mono(row.operation)],
			["Object", object],
			["Change", change, "wide"],
			["Request", (row) => mono(row.requestId)],
		],
		empty: () =>
			Object.keys(filtered()).length
				? noneMatches("change")
				: p`No change yet. Each write by the API or the command line appears here; messages and reads do not.`,
	}).node;
}
