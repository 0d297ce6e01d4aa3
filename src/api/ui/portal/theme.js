/**
 * How the embedding page wants the portal to look: Svix's parameters of the address. Anybody can write an address, so
 * they set little: colours, an image that is no request to another host, and what is hidden.
 */

const root = document.documentElement;

/** The accents of ui.css, and the lightness that keeps words in a colour legible: light, dark. */
const THEMES = [["Light", "#0b5cad", "min(l, 0.48)"], ["Dark", "#6cb2f7", "max(l, 0.76)"]];

export function dress(param) {
	const dark = param("darkMode");
	if (dark === "true" || dark === "false") root.style.colorScheme = dark === "true" ? "dark" : "light";
	root.classList.toggle("no-gutters", isTrue(param("noGutters")));
	const accents = THEMES.map(([name, accent, lightness]) => {
		const given = param(`primaryColor${name}`) ?? param("primaryColor");
		const digits = /^#?([0-9a-f]{3}|[0-9a-f]{6})$/i.exec(given ?? "")?.[1];
		return digits ? `oklch(from #${digits} ${lightness} c h)` : accent;
	});
	root.style.setProperty("--accent", `light-dark(${accents.join(", ")})`);
}

export const isTrue = (text) => ["true", "1", ""].includes(text);

/** The address of an image that may be shown: data or of the same origin. */
export function icon(text) {
	if (!text || /^data:image\//i.test(text)) return text;
	const url = URL.canParse(text, document.baseURI) ? new URL(text, document.baseURI) : null;
	return url?.origin === location.origin ? url.href : null;
}
