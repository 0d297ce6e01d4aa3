/**
 * Routes in the fragment of the address: `#/app/app_1/delivery?state=failed`. What is before the fragment is never
 * touched, so the page works behind any prefix. Filters are the route's query.
 */

/** The route in a fragment: its parts and its query. */
export function parse(fragment = location.hash) {
	const text = fragment.replace(/^#/, "");
	const at = text.includes("?") ? text.indexOf("?") : text.length;
	return {
		parts: text.slice(0, at).split("/").filter(Boolean).map(decode),
		query: new URLSearchParams(text.slice(at + 1)),
	};
}

function decode(text) {
	try {
		return decodeURIComponent(text);
	} catch {
		return text;
	}
}

/** The fragment of a route, without the empty values of its query. */
export function href(parts, query = {}) {
	const entries = query instanceof URLSearchParams ? [...query] : Object.entries(query);
	const text = new URLSearchParams(entries.filter(([, value]) => value || value === 0)).toString();
	return "#/" + parts.map(encodeURIComponent).join("/") + (text && `?${text}`);
}

/** Goes to a route. With `replace`, Back does not return to the present one. @param {string} fragment @param {{replace?: boolean}} [options] */
export function go(fragment, { replace } = {}) {
	if (!replace) location.hash = fragment;
	else {
		history.replaceState(history.state, "", fragment);
		dispatchEvent(new HashChangeEvent("hashchange"));
	}
}

/** Changes the query of the present route: a filter was set. */
export function setQuery(changes) {
	const { parts, query } = parse();
	go(href(parts, { ...Object.fromEntries(query), ...changes }), { replace: true });
}

/** Compares parts with a pattern such as `app/:app/msg/:msg`; returns what stands for its names, or null. */
export function match(pattern, parts) {
	const wanted = pattern.split("/");
	if (wanted.length !== parts.length) return null;
	/** @type {Record<string, string>} */
	const found = {};
	for (const [i, name] of wanted.entries()) {
		if (name.startsWith(":")) found[name.slice(1)] = parts[i];
		else if (name !== parts[i]) return null;
	}
	return found;
}
