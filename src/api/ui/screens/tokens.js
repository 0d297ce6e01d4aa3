/**
 * Tokens of the organization, and the audit log.
 *
 * @module
 */

import { path } from "../api.js";
import { h } from "../dom.js";
import { code, elements, member } from "../json.js";
import {
	action,
	ago,
	ask,
	copy,
	field,
	fromLocalInput,
	input,
	link,
	mono,
	say,
	select,
	show,
	toLocalInput,
	when,
} from "../parts.js";
import { parse } from "../route.js";
import { appHref, appLink, asking, endpointHref, head, listScreen, PERIOD } from "./shared.js";

/** @typedef {import("../console.js").Context} Context */

/** @type {[string, string][]} */
const ROLES = [["admin", "admin: everything"], ["operator", "operator: reads, sends again, enables"], [
	"viewer",
	"viewer: reads",
], ["sender", "sender: sends messages, reads nothing"]];

/** A screen for admins alone says why it is empty. @param {string} title @param {string} reason */
const closed = (title, reason) => h("div", head(title, []), h("p", { class: "note" }, reason));

/** @param {Context} context */
export function tokens(context) {
	const { api, who, may } = context;
	const reason = may("administer");
	if (reason) return closed("Tokens", reason);
	const name = (row) => row.name ?? row.id;
	const revoke = (row) =>
		asking("Revoke", {
			title: `Revoke ${name(row)}?`,
			text: "Programs that use it are refused within 5 seconds.",
			typed: name(row),
			run: () => api.delete(path`token/${row.id}`),
			done: `${name(row)} is revoked`,
			then: () => reload(),
			about: name(row),
			kind: "danger",
		});
	const { node, reload } = listScreen(context, {
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
			[
				"Action",
				(row) =>
					h(
						"div",
						{ class: "buttons end" },
						action("Change", () => edit(context, row, reload), { about: name(row) }),
						revoke(row),
					),
				"actions",
			],
		],
		empty: () => h("p", "No token."),
	});
	return node;
}

/** Makes a token, or changes one. */
function edit({ api }, token, then) {
	const name = input({ required: true, maxlength: 256, value: token?.name ?? "" });
	const role = select(ROLES, token?.role ?? "viewer");
	const expires = input({ type: "datetime-local", value: toLocalInput(token?.expiresAt ?? null) });
	const run = async () => {
		const body = {
			name: name.value.trim(),
			role: role.value,
			expiresAt: fromLocalInput(expires.value) || null,
		};
		const made = await (token ? api.patch(path`token/${token.id}`, body) : api.post("token", body));
		then();
		if (token) say("Saved");
		else {show(
				"The token is made",
				h("p", "It is shown this once. Who has it may do what its role says."),
				h("pre", { class: "code" }, made.token),
				copy(made.token, "Token"),
			);}
	};
	return ask(
		{
			title: token ? `Change ${token.name ?? token.id}` : "Add a token",
			button: token ? "Save" : "Add token",
			run,
		},
		field("Name", name, "What uses it"),
		field("Role", role),
		field("Expires", expires, "Empty: never."),
	);
}

/** @param {Context} context */
export function audit(context) {
	const { api, may } = context;
	const reason = may("administer");
	if (reason) return closed("Audit", reason);
	const load = async (page, signal) => {
		const query = { ...Object.fromEntries(parse().query), ...page };
		const { data, text } = await api.call("GET", "audit", { signal, query }).catch((error) => {
			throw error.status === 404 ? new Error("This server keeps no audit log.") : error;
		});
		const texts = elements(text, "data");
		const part = (row, i, name) => row[name] && member(texts[i], name);
		return {
			...data,
			data: data.data.map((row, i) => ({
				...row,
				before: part(row, i, "before"),
				after: part(row, i, "after"),
			})),
		};
	};
	const change = (title, text) => text && [h("p", title), code(text, title, { indent: true })];
	return listScreen(context, {
		title: "Audit",
		caption: "Changes, newest first",
		noun: "changes",
		load,
		filters: [{ name: "actor", label: "Actor" }, { name: "operation", label: "Operation" }, {
			name: "object",
			label: "Object",
		}, ...PERIOD],
		columns: [
			["Time", (row) => when(row.timestamp)],
			["Actor", (row) => [row.actor.name ?? row.actor.kind, h("div", { class: "mono muted" }, row.actor.id)]],
			["Operation", (row) => mono(row.operation)],
			[
				"Object",
				(
					row,
				) => [
					object(row),
					row.appId && row.object?.kind !== "application" && h("div", appLink(context, row.appId)),
				],
			],
			[
				"Change",
				(row) =>
					row.before || row.after
						? h("details", h("summary", "Show"), change("Before", row.before), change("After", row.after))
						: "–",
				"wide",
			],
			["Request", (row) => mono(row.requestId)],
		],
		empty: () =>
			h(
				"p",
				parse().query.size
					? "No change passes these filters."
					: "No change yet. Each write by the API or the command line appears here; messages and reads do not.",
			),
	}).node;
}

function object({ appId, object }) {
	if (!object) return "–";
	const place = object.kind === "application"
		? appHref(object.id)
		: object.kind === "endpoint" && appId
		? endpointHref(appId, object.id)
		: null;
	return [`${object.kind} `, place ? link(object.id, place, { class: "mono" }) : mono(object.id)];
}
