/**
 * How the embedding page wants the portal to look: Svix's parameters of the address. What they may set is
 * little, since anybody can write an address: colours, an image that is no request to another host, and what
 * is hidden.
 *
 * @module
 */

const root = document.documentElement;

/** The background that coloured words stand on: light, dark. */
const PAPER = [[246, 247, 248], [36, 41, 46]];

/**
 * Takes the look from the parameters. They are in the query, or beside the token in the fragment.
 *
 * @param {(name: string) => string | null} param
 */
export function dress(param) {
	const dark = param("darkMode");
	if (dark === "true" || dark === "false") {
		root.style.setProperty("color-scheme", dark === "true" ? "dark" : "light");
	}
	root.classList.toggle("no-gutters", isTrue(param("noGutters")));
	const common = colour(param("primaryColor"));
	const light = colour(param("primaryColorLight")) ?? common;
	const shade = colour(param("primaryColorDark")) ?? common;
	if (light) pair("--accent", "--on-accent", legible(light, 0), shade ? legible(shade, 1) : null);
	else if (shade) pair("--accent", "--on-accent", null, legible(shade, 1));
}

export function isTrue(text) {
	return text === "true" || text === "1" || text === "";
}

/** The address of an image that may be shown: data or of the same origin. */
export function icon(text) {
	if (!text) return null;
	if (/^data:image\//i.test(text)) return text;
	try {
		const url = new URL(text, document.baseURI);
		return url.origin === location.origin && /^https?:$/.test(url.protocol) ? url.href : null;
	} catch {
		return null;
	}
}

/** Red, green and blue of a hexadecimal colour, with or without `#`. */
function colour(text) {
	const digits = /^#?([0-9a-f]{3}|[0-9a-f]{6})$/i.exec(text ?? "")?.[1];
	if (!digits) return null;
	const step = digits.length / 3;
	return [0, 1, 2].map((i) => parseInt(digits.slice(i * step, i * step + step).repeat(3 - step), 16));
}

function pair(name, on, light, dark) {
	const text = (c) => `rgb(${c.join(" ")})`;
	const first = light ?? [11, 92, 173], second = dark ?? [108, 178, 247];
	root.style.setProperty(name, `light-dark(${text(first)}, ${text(second)})`);
	root.style.setProperty(on, `light-dark(${text(over(first))}, ${text(over(second))})`);
}

/** Moves a colour away from the background until words in it can be read. */
function legible(colour, dark) {
	const end = dark ? 255 : 0;
	let now = colour;
	for (let part = 0; part <= 1 && contrast(now, PAPER[dark]) < 4.6; part += 0.05) {
		now = colour.map((c) => Math.round(c + (end - c) * part));
	}
	return now;
}

/** Black or white, whichever is easier to read on a colour. */
function over(colour) {
	return contrast(colour, [255, 255, 255]) >= 4.5 ? [255, 255, 255] : [0, 0, 0];
}

/** The contrast of two colours as WCAG defines it. */
function contrast(a, b) {
	const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
	return (high + 0.05) / (low + 0.05);
}

function luminance(colour) {
	const [r, g, b] = colour.map((c) => c / 255).map((c) =>
		c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4
	);
	return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
