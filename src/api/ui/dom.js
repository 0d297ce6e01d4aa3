/** Makes elements. Text is set as text and styles by CSSOM, so that the pages need no markup in strings. */

/**
 * Makes an HTML element: `p.muted` is a `p` of the class `muted`. Attributes may be left out; `on…` adds a listener.
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
	return made(element, attributes, children);
}

export function svg(tag, attributes, ...children) {
	return made(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

const PROPERTIES = ["value", "checked", "disabled"];

function made(element, attributes, children) {
	if (attributes?.constructor === Object) {
		for (const [name, value] of Object.entries(attributes)) {
			if (value === null || value === undefined || value === false) continue;
			if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
			else if (PROPERTIES.includes(name)) element[name] = value;
			else element.setAttribute(name, value === true ? "" : value);
		}
	} else children.unshift(attributes);
	element.append(...nodes(children));
	return element;
}

/** Makes a paragraph of a template with nodes in it. */
export function p(texts, ...values) {
	return h("p", texts.map((text, i) => [text, values[i]]));
}

export function fill(parent, ...children) {
	parent.replaceChildren(...nodes(children));
}

/** Flattens children and leaves out what is nothing. @returns {(Node | string)[]} */
export function nodes(children) {
	return children.flatMap((child) => {
		if (child === null || child === undefined || child === false) return [];
		if (child instanceof Node) return [child];
		return typeof child === "object" ? nodes(child) : [String(child)];
	});
}

/** @type {WeakMap<Node, {name: string, text: string}>} */
const keyedNodes = new WeakMap();

/**
 * Makes the children of `parent` those of `items`, in their order. The node of an item that did not change stays, so
 * that focus, selection and what is unfolded survive a refresh.
 */
export function keyed(parent, items, key, make) {
	const old = new Map([...parent.children].map((child) => [keyedNodes.get(child)?.name, child]));
	const now = items.map((item) => {
		const name = key(item), text = JSON.stringify(item), before = old.get(name);
		if (before && keyedNodes.get(before)?.text === text) return before;
		const node = make(item), kept = before && !swap(before, node) ? before : node;
		keyedNodes.set(kept, { name, text });
		return kept;
	});
	for (const child of [...parent.children]) if (!now.includes(child)) child.remove();
	now.forEach((node, i) => parent.children[i] !== node && parent.insertBefore(node, parent.children[i] ?? null));
}

const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";

/**
 * Replaces an element by one that shows the same things, unless they are equal: the focus moves to the control with
 * the same place, and what was unfolded stays so. Returns whether it was replaced.
 */
export function swap(before, node) {
	const unfolded = [...before.querySelectorAll("details")].map((details) => details.open);
	node.querySelectorAll("details").forEach((details, i) => details.open = unfolded[i] ?? details.open);
	if (node.isEqualNode(before)) return false;
	const focused = document.activeElement, here = before.contains(focused);
	const place = [...before.querySelectorAll(FOCUSABLE)].indexOf(focused);
	before.replaceWith(node);
	if (here) focus(node.querySelectorAll(FOCUSABLE)[place] ?? node);
	return true;
}

/** @param {any} [control] */
export function focus(control) {
	control?.focus({ preventScroll: true });
}

/** Returns the focus to a control that was drawn anew: to the one that is called the same, else to the screen. */
export function refocus(lost) {
	if (!lost || lost.isConnected || document.activeElement !== document.body) return;
	const isSame = (one) => one.textContent === lost.textContent && one.ariaDescription === lost.ariaDescription;
	const same = [...document.querySelectorAll("main :is(a, button)")].find(isSame);
	focus(same ?? document.querySelector("main"));
}
