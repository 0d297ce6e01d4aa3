/**
 * Tokens of the organization, and the audit log.
 *
 * @module
 */

import { ApiError, path } from "../api.js";
import { h } from "../dom.js";
import { code, elements, member } from "../json.js";
import { filterForm, list } from "../list.js";
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
import { appHref, appLink, endpointHref, head } from "./shared.js";

/** @typedef {import("../console.js").Context} Context */

/** @type {[string, string][]} */
const ROLES = [["admin", "admin: everything"], ["operator", "operator: reads, sends again, enables"], [
	"viewer",
	"viewer: reads",
], ["sender", "sender: sends messages, reads nothing"]];

/** @param {Context} context */
export function tokens(context) {
	const { api, signal, who, may, title } = context;
	title("Tokens");
	const reason = may("administer");
	const add = action("Add token", () => edit(context, null, () => reload()), { kind: "main", reason });
	if (reason) return h("div", head("Tokens", [], add), h("p", { class: "note" }, reason));
	const name = (row) => row.name ?? row.id;
	const revoke = (row) =>
		ask({
			title: `Revoke ${name(row)}?`,
			button: "Revoke",
			kind: "danger",
			typed: name(row),
			run: async () => {
				await api.delete(path`token/${row.id}`);
				say(`${name(row)} is revoked`);
				reload();
			},
		}, h("p", "Programs that use it are refused within 5 seconds."));
	const { node, reload } = list({
		caption: "Tokens",
		noun: "tokens",
		signal,
		key: (row) => row.id,
		load: (page, signal) => api.get("token", { signal, query: page }),
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
						action("Revoke", () => revoke(row), { about: name(row), kind: "danger" }),
					),
				"actions",
			],
		],
		empty: () => h("p", "No token."),
	});
	return h("div", head("Tokens", [], add), h("section", node));
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
	const { api, signal, title, may, keep } = context;
	title("Audit");
	const reason = may("administer");
	if (reason) return h("div", head("Audit", []), h("p", { class: "note" }, reason));
	keep();
	const { node, reload } = list({
		caption: "Changes, newest first",
		noun: "changes",
		signal,
		key: (row) => row.id,
		load: async (page, signal) => {
			try {
				const { data, text } = await api.call("GET", "audit", {
					signal,
					query: { ...Object.fromEntries(parse().query), ...page },
				});
				const texts = elements(text, "data");
				return {
					...data,
					data: data.data.map((row, i) => ({
						...row,
						before: row.before && member(texts[i], "before"),
						after: row.after && member(texts[i], "after"),
					})),
				};
			} catch (error) {
				if (error instanceof ApiError && error.status === 404) {
					throw new Error("This server keeps no audit log.");
				}
				throw error;
			}
		},
		columns: [
			["Time", (row) => when(row.timestamp)],
			[
				"Actor",
				(
					row,
				) => [
					row.actor.name ?? row.actor.kind,
					row.actor.id && h("div", { class: "mono muted" }, row.actor.id),
				],
			],
			["Operation", (row) => h("span", { class: "mono" }, row.operation)],
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
						? h(
							"details",
							h("summary", "Show"),
							row.before && [h("p", "Before"), code(row.before, "Before", { indent: true })],
							row.after && [h("p", "After"), code(row.after, "After", { indent: true })],
						)
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
	});
	const filters = filterForm(
		[
			{ name: "actor", label: "Actor" },
			{ name: "operation", label: "Operation" },
			{ name: "object", label: "Object" },
			{ name: "after", label: "After", instant: true },
			{ name: "before", label: "Before", instant: true },
		],
		signal,
		reload,
	);
	return h("div", head("Audit", []), h("section", filters, node));
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
