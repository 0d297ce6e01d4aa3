/**
 * How the embedding page wants the portal to look: Svix's parameters of the address. Anybody can write an address, so
 * they set little: colours, an image that is no request to another host, and what is hidden.
 */

const root = document.documentElement;

/** The backgrounds that coloured words stand on, and the accents of ui.css: light, dark. */
const PAPER = [[246, 247, 248], [36, 41, 46]], ACCENT = [[11, 92, 173], [108, 178, 247]];

/** Takes the look from the parameters. @param {(name: string) => string | null} param */
export function dress(param) {
	const dark = param("darkMode");
	if (dark === "true" || dark === "false") root.style.colorScheme = dark === "true" ? "dark" : "light";
	root.classList.toggle("no-gutters", isTrue(param("noGutters")));
	const given = ["primaryColorLight", "primaryColorDark"].map((name) =>
		colour(param(name)) ?? colour(param("primaryColor"))
	);
	if (!given.some(Boolean)) return;
	const accents = given.map((colour, i) => colour ? legible(colour, i) : ACCENT[i]);
	const pair = (colours) => `light-dark(${colours.map((colour) => `rgb(${colour.join(" ")})`).join(", ")})`;
	root.style.setProperty("--accent", pair(accents));
	root.style.setProperty("--on-accent", pair(accents.map(over)));
}

export function isTrue(text) {
	return text === "true" || text === "1" || text === "";
}

/** The address of an image that may be shown: data or of the same origin. */
export function icon(text) {
	if (!text || /^data:image\//i.test(text)) return text;
	const url = URL.canParse(text, document.baseURI) ? new URL(text, document.baseURI) : null;
	return url?.origin === location.origin ? url.href : null;
}

/** Red, green and blue of a hexadecimal colour, with or without `#`. */
function colour(text) {
	const digits = /^#?([0-9a-f]{3}|[0-9a-f]{6})$/i.exec(text ?? "")?.[1];
	if (!digits) return null;
	const step = digits.length / 3;
	return [0, 1, 2].map((i) => parseInt(digits.slice(i * step, i * step + step).repeat(3 - step), 16));
}

/** Moves a colour away from the background until words in it can be read. */
function legible(colour, dark) {
	let now = colour;
	for (let part = 0; part <= 1 && contrast(now, PAPER[dark]) < 4.6; part += 0.05) {
		now = colour.map((c) => Math.round(c + (dark * 255 - c) * part));
	}
	return now;
}

/** Black or white, whichever is easier to read on a colour. */
function over(colour) {
	const white = [255, 255, 255];
	return contrast(colour, white) >= 4.5 ? white : [0, 0, 0];
}

/** The contrast of two colours as WCAG defines it. */
function contrast(a, b) {
	const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x);
	return (high + 0.05) / (low + 0.05);
}

function luminance(colour) {
	const linear = (c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
	const [r, g, b] = colour.map((c) => linear(c / 255));
	return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}
