/** The endpoints of an application with their last 24 hours. */

import { bars } from "../chart.js";
import { h } from "../dom.js";
import { list } from "../list.js";
import { ago, count, share } from "../parts.js";
import { whyDisabled } from "./endpoint.js";
import { endpointCell, endpointState } from "./shared.js";

/** The columns of attempts of 24 h, of rows with a `series`. @type {Column[]} */
export const counts = [
	[
		"Attempts, 24 h",
		({ series }) => series && bars(series.buckets, { title: "Attempts by hour, 24 h", table: false }),
	],
	["Delivered, 24 h", ({ series }) => count(series?.delivered), "number"],
	["Failed, 24 h", ({ series }) => count(series?.failed), "number"],
	["Succeeded, 24 h", ({ series }) => series ? share(series.delivered, series.failed) : "–", "number"],
];

/** Gives rows their series. */
export function joined(rows, series) {
	const byId = new Map(series.map((one) => [one.endpointId ?? one.appId, one]));
	return rows.map((row) => ({ ...row, series: byId.get(row.id) }));
}

/** @param {Context} context @param {string} appId @param {(id: string) => string} to @param {() => Children} empty */
export function endpointList({ api, signal, portal }, appId, to, empty) {
	const load = async (page, signal) => {
		const endpoints = await api.get(`app/${encodeURIComponent(appId)}/endpoint`, { signal, query: page });
		const ids = endpoints.data.map((row) => row.id).join(",");
		const query = { by: "endpoint", app_id: appId, endpoint_id: ids };
		// Counts must not keep the list from being shown.
		const stats = ids ? await api.get("stats/delivery", { signal, query }).catch(() => null) : null;
		return { ...endpoints, data: joined(endpoints.data, stats?.data ?? []) };
	};
	const since = (row) => row.disabled ? whyDisabled(row) : row.failingSince && ["since ", ago(row.failingSince)];
	const types = ({ eventTypes }) =>
		eventTypes?.length > 3 ? `${eventTypes.length} types` : eventTypes?.join(", ") ?? "all";
	return list({
		caption: "Endpoints",
		noun: "endpoints",
		signal,
		refresh: 10,
		load,
		columns: [
			["Endpoint", (row) => endpointCell(row, to(row.id), portal), "wide"],
			["State", (row) => [endpointState(row), h("div.muted", since(row))]],
			["Event types", types],
			...counts,
		],
		empty,
	}).node;
}
