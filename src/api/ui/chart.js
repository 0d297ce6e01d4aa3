/** Draws bars of what succeeded and failed over time, and the same as a table for people who do not see them. */

import { h, svg } from "./dom.js";
import { table as tableOf } from "./list.js";
import { count, plural } from "./parts.js";

/**
 * Bars of attempts: delivered below, failed above and edged, so that colour is not the only difference. `step`: seconds
 * of a bucket; `table`: false for a sparkline, whose figures stand beside it.
 */
export function bars(buckets, { title, step = 3600, table = true }) {
	const most = Math.max(1, ...buckets.map(({ delivered, failed }) => delivered + failed));
	const height = table ? 72 : 24, width = 100 / Math.max(1, buckets.length);
	const counts = ({ delivered, failed }) => `${count(delivered)} delivered, ${count(failed)} failed`;
	const sum = (name) => buckets.reduce((all, bucket) => all + bucket[name], 0);
	// A bar that counts something is at least two pixels high.
	const size = (n, top) => n && Math.max(2, Math.min(top, Math.round(n / most * height)));
	const drawn = buckets.map((bucket, i) => {
		const failed = size(bucket.failed, height), delivered = size(bucket.delivered, height - failed);
		const bar = (kind, y, height, ...children) =>
			height > 0 &&
			svg("rect", { x: `${(i + 0.1) * width}%`, width: `${width * 0.8}%`, y, height, class: `bar-${kind}` }, children);
		return [
			bar("space", 0, height, svg("title", {}, `${span(bucket.start, step)}: ${counts(bucket)}`)),
			bar("good", height - delivered, delivered),
			bar("bad", height - delivered - failed, failed),
		];
	});
	const label = `${title}: ${counts({ delivered: sum("delivered"), failed: sum("failed") })}`;
	const picture = svg("svg", { class: "chart", role: "img", "aria-label": label, height }, drawn);
	if (!table) return picture;
	const rows = buckets.filter(({ delivered, failed }) => delivered + failed).reverse();
	const columns = [
		["Time", ({ start }) => span(start, step)],
		["Delivered", ({ delivered }) => count(delivered), "number"],
		["Failed", ({ failed }) => count(failed), "number"],
	];
	return h(
		"figure",
		h("figcaption", title, h("span.muted", ` · highest bar: ${plural(most, "attempts")}`)),
		picture,
		h(
			"div.axis.muted",
			{ "aria-hidden": "true" },
			h("span", buckets[0] && instant(buckets[0].start)),
			h("span", h("i.key"), "delivered ", h("i.key.bad"), "failed"),
			h("span", "now"),
		),
		h("details.figures", h("summary", "Figures"), tableOf(title, columns, rows)),
	);
}

function instant(start) {
	const at = new Date(start);
	return `${at.toLocaleDateString(undefined, { day: "numeric", month: "short" })} ${time(at)}`;
}

function span(start, step) {
	return `${instant(start)}–${time(new Date(+new Date(start) + step * 1000))}`;
}

function time(at) {
	return at.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}
