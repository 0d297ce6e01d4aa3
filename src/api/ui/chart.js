/** Draws bars of what succeeded and failed over time, and the same as a table for people who do not see them. */

import { h, svg } from "./dom.js";
import { count, muted } from "./parts.js";

/**
 * Bars of attempts: delivered below, failed above and edged, so that colour is not the only difference.
 *
 * @param {readonly {start: string, delivered: number, failed: number}[]} buckets
 * @param {{title: string, step?: number, table?: boolean}} options `step`: seconds of a bucket; `table`: false for a
 *   sparkline, whose figures stand beside it
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
		const bar = (kind, y, height) =>
			svg("rect", { x: `${(i + 0.1) * width}%`, width: `${width * 0.8}%`, y, height, class: `bar-${kind}` });
		const space = bar("space", 0, height);
		space.append(svg("title", {}, `${span(bucket.start, step)}: ${counts(bucket)}`));
		return [
			space,
			delivered > 0 && bar("good", height - delivered, delivered),
			failed > 0 && bar("bad", height - delivered - failed, failed),
		];
	});
	const label = `${title}: ${counts({ delivered: sum("delivered"), failed: sum("failed") })}`;
	const picture = svg("svg", { class: "chart", role: "img", "aria-label": label, height }, drawn);
	if (!table) return picture;
	return h(
		"figure",
		h("figcaption", title, h("span.muted", ` · highest bar: ${count(most)} attempts`)),
		picture,
		h(
			"div.axis.muted",
			{ "aria-hidden": "true" },
			h("span", buckets[0] && instant(buckets[0].start, step)),
			h("span", h("i.key"), "delivered ", h("i.key.bad"), "failed"),
			h("span", "now"),
		),
		h("details.figures", h("summary", "Figures"), figures(buckets, title, step)),
	);
}

function figures(buckets, title, step) {
	const row = ({ start, delivered, failed }) =>
		h("tr", h("th", { scope: "row" }, span(start, step)), [delivered, failed].map((n) => h("td.number", count(n))));
	const rows = [...buckets].reverse().filter(({ delivered, failed }) => delivered + failed).map(row);
	if (rows.length === 0) return muted("No attempts.");
	return h(
		"table",
		h("caption.hidden", title),
		h("thead", h("tr", ["Time", "Delivered", "Failed"].map((name) => h("th", name)))),
		h("tbody", rows),
	);
}

function instant(start, step) {
	const at = new Date(start);
	const day = at.toLocaleDateString(undefined, { day: "numeric", month: "short" });
	return step >= 86_400 ? day : `${day} ${time(at)}`;
}

function span(start, step) {
	const from = instant(start, step);
	return step >= 86_400 ? from : `${from}–${time(new Date(+new Date(start) + step * 1000))}`;
}

function time(at) {
	return at.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
}
