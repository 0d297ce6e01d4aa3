/** Makes elements. Text is set as text and styles by CSSOM, so that the pages need no markup in strings. */

/**
 * Makes an HTML element: `p.muted` is a `p` of the class `muted`. Attributes may be left out; `on…` adds a listener,
 * `true` sets an attribute without a value, and false, null and undefined set none.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K | `${K}.${string}`} name
 * @param {Record<string, any> | Children} [attributes]
 * @param {...Children} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(name, attributes, ...children) {
	const [tag, ...classes] = name.split(".");
	const element = document.createElement(tag);
	if (classes.length) element.className = classes.join(" ");
	if (attributes?.constructor === Object) set(element, attributes);
	else children.unshift(/** @type {Children} */ (attributes));
	element.append(...nodes(children));
	return /** @type {any} */ (element);
}

/** Makes an element of SVG. */
export function svg(tag, attributes, ...children) {
	const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
	set(element, attributes);
	element.append(...nodes(children));
	return element;
}

/** A paragraph of a template with nodes in it. */
export function p(texts, ...values) {
	return h("p", texts.map((text, i) => [text, values[i]]));
}

/** Replaces everything in `parent`. @template {Element} T @param {T} parent @param {...Children} children */
export function fill(parent, ...children) {
	parent.replaceChildren(...nodes(children));
	return parent;
}

/** Flattens children and leaves out what is nothing. @returns {(Node | string)[]} */
export function nodes(children) {
	return children.flatMap((child) => {
		if (child === null || child === undefined || child === false) return [];
		if (child instanceof Node) return [child];
		return typeof child === "object" ? nodes(child) : [String(child)];
	});
}

const PROPERTIES = ["value", "checked", "disabled"];

function set(element, attributes) {
	for (const [name, value] of Object.entries(attributes)) {
		if (value === null || value === undefined || value === false) continue;
		if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
		else if (PROPERTIES.includes(name)) element[name] = value;
		else element.setAttribute(name, value === true ? "" : String(value));
	}
}

/** @type {WeakMap<Node, {key: string, text: string}>} */
const keyedNodes = new WeakMap();

/**
 * Makes the children of `parent` those of `items`, in their order. The node of an item that did not change stays, so
 * that focus, selection and what is unfolded survive a refresh.
 *
 * @param {Element} parent
 * @param {readonly any[]} items
 * @param {(item: any) => string} key
 * @param {(item: any) => Element} make
 */
export function keyed(parent, items, key, make) {
	const old = new Map([...parent.children].map((child) => [keyedNodes.get(child)?.key, child]));
	const now = items.map((item) => {
		const name = key(item), text = JSON.stringify(item), before = old.get(name);
		if (before && keyedNodes.get(before)?.text === text) return before;
		const made = make(item);
		const node = before && !swap(before, made) ? before : made;
		keyedNodes.set(node, { key: name, text });
		return node;
	});
	const keep = new Set(now);
	for (const child of [...parent.children]) if (!keep.has(child)) child.remove();
	now.forEach((node, i) => parent.children[i] !== node && parent.insertBefore(node, parent.children[i] ?? null));
}

const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";

/**
 * Replaces an element by one that shows the same things, unless they are equal: the focus moves to the control with
 * the same place, and what was unfolded stays so. Returns whether it was replaced.
 *
 * @param {Element} before
 * @param {Element} node
 */
export function swap(before, node) {
	const unfolded = [...before.querySelectorAll("details")].map((details) => details.open);
	node.querySelectorAll("details").forEach((details, i) => details.open = unfolded[i] ?? false);
	if (node.isEqualNode(before)) return false;
	keepFocus(before, () => (before.replaceWith(node), node));
	return true;
}

/** Replaces what is in `place`: the focus moves to the control with the same place. */
export function refill(place, ...children) {
	keepFocus(place, () => fill(place, ...children));
}

function keepFocus(before, change) {
	const place = [...before.querySelectorAll(FOCUSABLE)].indexOf(document.activeElement);
	const focused = before.contains(document.activeElement);
	const after = change();
	if (focused) (after.querySelectorAll(FOCUSABLE)[place] ?? after).focus({ preventScroll: true });
}

/** Returns the focus to a control that was drawn anew: to the one that is called the same, else to the screen. */
export function refocus(lost) {
	if (!lost || lost.isConnected || document.activeElement !== document.body) return;
	const same = [...document.querySelectorAll("main :is(a, button)")].find((control) =>
		control.textContent === lost.textContent && control.ariaDescription === lost.ariaDescription
	);
	/** @type {HTMLElement | null} */ (same ?? document.querySelector("main"))?.focus({ preventScroll: true });
}
