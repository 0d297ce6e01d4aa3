/**
 * Routes in the fragment of the address: `#/app/app_1/delivery?state=failed`. What is before the fragment is never
 * touched, so the page works behind any prefix. Filters are the route's query.
 */

/** The route in a fragment: its parts and its query. */
export function parse(fragment = location.hash) {
	const [way, ...query] = fragment.replace(/^#/, "").split("?");
	return { parts: way.split("/").filter(Boolean).map(decode), query: new URLSearchParams(query.join("?")) };
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

export function go(fragment) {
	location.hash = fragment;
}

/** Goes to a route; Back does not return to the present one. */
export function goInstead(fragment) {
	history.replaceState(history.state, "", fragment);
	dispatchEvent(new HashChangeEvent("hashchange"));
}

/** Changes the query of the present route: a filter was set. */
export function setQuery(changes) {
	const { parts, query } = parse();
	goInstead(href(parts, { ...Object.fromEntries(query), ...changes }));
}

/** Compares parts with a pattern such as `app/:app/msg/:msg`; returns what stands for its names, or null. */
export function match(pattern, parts) {
	const wanted = pattern.split("/");
	const isName = (name) => name.startsWith(":");
	if (wanted.length !== parts.length || wanted.some((name, i) => !isName(name) && name !== parts[i])) return null;
	return Object.fromEntries(wanted.flatMap((name, i) => isName(name) ? [[name.slice(1), parts[i]]] : []));
}
