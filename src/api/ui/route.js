/**
 * Routes in the fragment of the address: `#/app/app_1/delivery?state=failed`. What is before the fragment
 * is never touched, so the page works behind any path prefix. Filters are the route's query.
 *
 * @module
 */

/** @typedef {{parts: string[], query: URLSearchParams}} Route */

/** The route in a fragment. @param {string} [fragment] @returns {Route} */
export function parse(fragment = location.hash) {
	const [path, query = ""] = split(fragment.replace(/^#/, ""));
	return { parts: path.split("/").filter(Boolean).map(decode), query: new URLSearchParams(query) };
}

/** @param {string} text @returns {string[]} */
function split(text) {
	const at = text.indexOf("?");
	return at < 0 ? [text] : [text.slice(0, at), text.slice(at + 1)];
}

/** @param {string} text */
function decode(text) {
	try {
		return decodeURIComponent(text);
	} catch {
		return text;
	}
}

/**
 * The fragment of a route. Empty values of the query are left out.
 *
 * @param {readonly (string | number)[]} parts
 * @param {Record<string, any> | URLSearchParams} [query]
 */
export function href(parts, query = {}) {
	const entries = query instanceof URLSearchParams ? [...query] : Object.entries(query);
	const kept = entries.filter(([, value]) => value !== undefined && value !== null && value !== "");
	const text = new URLSearchParams(kept.map(([name, value]) => [name, String(value)])).toString();
	return "#/" + parts.map((part) => encodeURIComponent(String(part))).join("/") + (text && `?${text}`);
}

/**
 * Goes to a route. With `replace`, Back does not return to the present one.
 *
 * @param {string} fragment of `href`
 * @param {{replace?: boolean}} [options]
 */
export function go(fragment, { replace } = {}) {
	if (!replace) location.hash = fragment;
	else {
		history.replaceState(history.state, "", fragment);
		dispatchEvent(new HashChangeEvent("hashchange"));
	}
}

/** Changes the query of the present route: a filter was set. @param {Record<string, any>} changes */
export function setQuery(changes) {
	const { parts, query } = parse();
	for (const [name, value] of Object.entries(changes)) {
		if (value === undefined || value === null || value === "") query.delete(name);
		else query.set(name, String(value));
	}
	go(href(parts, query), { replace: true });
}

/** Calls `listener` with each route, the present one first. @param {(route: Route) => void} listener */
export function onRoute(listener) {
	addEventListener("hashchange", () => listener(parse()));
	listener(parse());
}

/**
 * Compares the parts of a route with a pattern such as `app/:app/msg/:msg`, and returns what stands for its
 * names, or null.
 *
 * @param {string} pattern
 * @param {readonly string[]} parts
 * @returns {Record<string, string> | null}
 */
export function match(pattern, parts) {
	const wanted = pattern.split("/").filter(Boolean);
	if (wanted.length !== parts.length) return null;
	/** @type {Record<string, string>} */
	const found = {};
	for (const [i, name] of wanted.entries()) {
		if (name.startsWith(":")) found[name.slice(1)] = parts[i];
		else if (name !== parts[i]) return null;
	}
	return found;
}
