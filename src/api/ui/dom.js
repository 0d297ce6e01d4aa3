/**
 * Makes elements. Text is always set as text and styles by CSSOM, so that the pages need neither inline
 * markup nor inline styles. This module knows nothing of the API.
 *
 * @module
 */

/** @typedef {Node | string | number | null | undefined | false} Child */
/** @typedef {Child | readonly any[]} Children what `nodes` flattens */
/** @typedef {Record<string, any>} Attributes */

/**
 * Makes an HTML element. Attributes, which may be left out: `on…` adds a listener, `style` is an object of CSS
 * properties, `value`, `checked` and `disabled` are set as properties; `true` sets an attribute without a value,
 * and false, null and undefined set none.
 *
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Attributes | Children} [attributes]
 * @param {...Children} children
 * @returns {HTMLElementTagNameMap[K]}
 */
export function h(tag, attributes, ...children) {
	const element = document.createElement(tag);
	if (attributes?.constructor === Object) set(element, /** @type {Attributes} */ (attributes));
	else children.unshift(/** @type {Children} */ (attributes));
	element.append(...nodes(children));
	return element;
}

/**
 * Makes an element of SVG; otherwise as `h`.
 *
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} tag
 * @param {Attributes | null} [attributes]
 * @param {...Children} children
 * @returns {SVGElementTagNameMap[K]}
 */
export function svg(tag, attributes, ...children) {
	const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
	set(element, attributes ?? {});
	element.append(...nodes(children));
	return element;
}

/**
 * Replaces everything in `parent`.
 *
 * @template {Element} T
 * @param {T} parent
 * @param {...Children} children
 * @returns {T}
 */
export function fill(parent, ...children) {
	parent.replaceChildren(...nodes(children));
	return parent;
}

/**
 * Flattens children and leaves out what is nothing.
 *
 * @param {readonly Children[]} children
 * @returns {(Node | string)[]}
 */
export function nodes(children) {
	return children.flatMap((child) => {
		if (child === null || child === undefined || child === false) return [];
		if (child instanceof Node) return [child];
		return typeof child === "object" ? nodes(child) : [String(child)];
	});
}

/**
 * @param {Element} element
 * @param {Attributes} attributes
 */
function set(element, attributes) {
	for (const [name, value] of Object.entries(attributes)) {
		if (value === null || value === undefined || value === false) continue;
		if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
		else if (name === "style") {
			for (const [property, text] of Object.entries(value)) {
				/** @type {HTMLElement} */ (element).style.setProperty(property, String(text));
			}
		} else if (name === "value" || name === "checked" || name === "disabled") {
			/** @type {any} */ (element)[name] = value;
		} else element.setAttribute(name, value === true ? "" : String(value));
	}
}

/** @type {WeakMap<Node, {key: string, text: string}>} */
const keyedNodes = new WeakMap();

/**
 * Makes the children of `parent` those of `items`, in their order. The node of an item that did not change
 * stays as it is, so that focus, selection and what is unfolded survive a refresh; the node of an item that
 * did is made again, and the focus inside it moves to the control with the same place.
 *
 * @template T
 * @param {Element} parent
 * @param {readonly T[]} items
 * @param {(item: T) => string} key
 * @param {(item: T) => Element} make
 */
export function keyed(parent, items, key, make) {
	/** @type {Map<string, Element>} */
	const old = new Map();
	for (const child of parent.children) {
		const known = keyedNodes.get(child);
		if (known) old.set(known.key, child);
	}
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
	now.forEach((node, index) => {
		if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
	});
}

const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";

/**
 * Replaces an element by one that shows the same things: the focus moves to the control with the same place, and
 * what was unfolded stays so. An equal element stays itself.
 *
 * @param {Element} before
 * @param {Element} node
 * @returns {boolean} whether it was replaced
 */
export function swap(before, node) {
	const unfolded = [...before.querySelectorAll("details")].map((details) => details.open);
	node.querySelectorAll("details").forEach((details, i) => details.open = unfolded[i] ?? false);
	if (node.isEqualNode(before)) return false;
	const active = document.activeElement;
	const place = active && before.contains(active)
		? [...before.querySelectorAll(FOCUSABLE)].indexOf(active)
		: -2;
	before.replaceWith(node);
	if (place === -2) return true;
	const target = place === -1 ? node : node.querySelectorAll(FOCUSABLE)[place] ?? node;
	/** @type {HTMLElement} */ (target).focus({ preventScroll: true });
	return true;
}
