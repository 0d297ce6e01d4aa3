/**
 * Draws bars of what succeeded and failed over time, and the same as a table for people who do not see it.
 *
 * @module
 */

import { h, svg } from "./dom.js";

/** @typedef {{start: string, delivered: number, failed: number}} Bucket */

const HEIGHT = 72;

/**
 * Bars of attempts, one for each bucket: delivered below, failed above it and striped, so that colour is not
 * the only difference.
 *
 * @param {readonly Bucket[]} buckets
 * @param {{title: string, step: number, table?: boolean}} options `step`: seconds of a bucket; `table`: false
 *   for a sparkline, whose figures stand beside it
 */
export function bars(buckets, { title, step, table = true }) {
	const most = Math.max(1, ...buckets.map((bucket) => bucket.delivered + bucket.failed));
	const height = table ? HEIGHT : 24;
	const width = 100 / Math.max(1, buckets.length);
	const sum = (name) => buckets.reduce((all, bucket) => all + bucket[name], 0);
	const summary = `${title}: ${count(sum("delivered"))} delivered, ${count(sum("failed"))} failed`;
	const drawn = buckets.flatMap((bucket, i) => {
		const failed = size(bucket.failed, most, height),
			delivered = size(bucket.delivered, most, height - failed);
		const label = `${span(bucket.start, step)}: ${count(bucket.delivered)} delivered, ${
			count(bucket.failed)
		} failed`;
		const place = { x: `${i * width + width * 0.1}%`, width: `${width * 0.8}%` };
		return [
			svg("rect", { ...place, y: 0, height, class: "bar-space" }, svg("title", null, label)),
			delivered > 0 && svg("rect", { ...place, y: height - delivered, height: delivered, class: "bar-good" }),
			failed > 0 &&
			svg("rect", { ...place, y: height - delivered - failed, height: failed, class: "bar-bad" }),
		];
	});
	const picture = svg("svg", { class: "chart", role: "img", "aria-label": summary, height }, ...drawn);
	if (!table) return picture;
	return h(
		"figure",
		{ class: "figure" },
		h("figcaption", title, h("span", { class: "muted" }, ` · highest bar: ${count(most)} attempts`)),
		picture,
		h(
			"div",
			{ class: "axis muted", "aria-hidden": "true" },
			h("span", buckets[0] && instant(buckets[0].start, step)),
			h(
				"span",
				{ class: "legend" },
				h("i", { class: "key good" }),
				"delivered ",
				h("i", { class: "key bad" }),
				"failed",
			),
			h("span", "now"),
		),
		h("details", { class: "figures" }, h("summary", "Figures"), figures(buckets, title, step)),
	);
}

/** A bar that counts something is at least two pixels high. @param {number} n @param {number} most @param {number} height */
function size(n, most, height) {
	return n === 0 ? 0 : Math.max(2, Math.min(height, Math.round((n / most) * HEIGHT * (height / HEIGHT))));
}

/** @param {readonly Bucket[]} buckets @param {string} title @param {number} step */
function figures(buckets, title, step) {
	const row = (bucket) =>
		h(
			"tr",
			h("th", { scope: "row" }, span(bucket.start, step)),
			h("td", { class: "number" }, count(bucket.delivered)),
			h("td", { class: "number" }, count(bucket.failed)),
		);
	return h(
		"table",
		h("caption", { class: "hidden" }, title),
		h(
			"thead",
			h("tr", h("th", "Time"), h("th", "Delivered"), h("th", "Failed")),
		),
		h("tbody", ...[...buckets].reverse().filter((bucket) => bucket.delivered + bucket.failed).map(row)),
	);
}

/** @param {string} start @param {number} step */
function instant(start, step) {
	const at = new Date(start);
	const day = at.toLocaleDateString(undefined, { day: "numeric", month: "short" });
	return step >= 86_400 ? day : `${day} ${time(at)}`;
}

/** @param {string} start @param {number} step */
function span(start, step) {
	return step >= 86_400
		? instant(start, step)
		: `${instant(start, step)}–${time(new Date(+new Date(start) + step * 1000))}`;
}

/** @param {Date} at */
function time(at) {
	return at.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}

/** @param {number} n */
function count(n) {
	return n.toLocaleString();
}
