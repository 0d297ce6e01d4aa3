/** Speaks to the API: token, deadlines, paging, and errors in the server's words. Decides nothing about what is shown. */

/** @typedef {{query?: Record<string, any>, body?: any, signal?: AbortSignal, seconds?: number, open?: boolean}} Options */

/** A request that did not succeed. `status` 0 means that no answer came; `code` is the server's. */
export class ApiError extends Error {
	constructor(message, status, code = "", requestId = null) {
		super(message);
		this.status = status;
		this.code = code;
		this.requestId = requestId;
	}
}

/** A path whose variable parts are encoded: path`app/${id}/msg`. */
export function path(texts, ...values) {
	return texts.reduce((whole, text, i) => whole + encodeURIComponent(values[i - 1]) + text);
}

/** Whether an error only says that the caller itself gave up the request. */
export function isAborted(error) {
	return error?.name === "AbortError";
}

/** Makes signals for requests of which only the newest counts: each call aborts the one before. */
export function newest(outer) {
	let controller = new AbortController();
	return () => {
		controller.abort();
		controller = new AbortController();
		return AbortSignal.any([outer, controller.signal]);
	};
}

export class Api {
	/**
	 * @param {string} page begins the idempotency keys
	 * @param {() => string | null} token
	 * @param {(error: ApiError) => void} unauthorized is told of each 401
	 */
	constructor(page, token, unauthorized) {
		this.base = new URL("api/v1/", document.baseURI);
		this.page = page;
		this.token = token;
		this.unauthorized = unauthorized;
	}

	/** @param {string} path relative to `api/v1/` @param {Record<string, any>} [query] */
	url(path, query = {}) {
		const url = new URL(path, this.base);
		// With `after` alone the API's lists begin at that instant and run towards the present.
		if (query.after && !query.before) query = { ...query, before: "2200-01-01T00:00:00Z" };
		for (const [name, value] of Object.entries(query)) {
			if (value !== undefined && value !== null && value !== "") url.searchParams.set(name, String(value));
		}
		return url;
	}

	/**
	 * Sends a request and returns the body, parsed and as text. Rejects with an ApiError, or an AbortError if `signal`
	 * ended it.
	 *
	 * @param {string} method
	 * @param {string} path
	 * @param {Options} [options] `body`: a string is sent as it is, anything else as JSON; `open`: without token
	 */
	async call(method, path, { query, body, signal, seconds = 15, open } = {}) {
		const token = open ? null : this.token();
		const headers = new Headers({ accept: "application/json" });
		if (token) headers.set("authorization", `Bearer ${token}`);
		if (body !== undefined) headers.set("content-type", "application/json");
		// A proxy that repeats a POST must do no harm.
		if (method === "POST") headers.set("idempotency-key", `${this.page}-${random()}`);
		const deadline = AbortSignal.timeout(seconds * 1000);
		let response, text;
		try {
			response = await fetch(this.url(path, query), {
				method,
				headers,
				body: body === undefined || typeof body === "string" ? body : JSON.stringify(body),
				signal: signal ? AbortSignal.any([signal, deadline]) : deadline,
				credentials: "omit",
				cache: "no-store",
				referrerPolicy: "no-referrer",
			});
			text = await response.text();
		} catch {
			if (signal?.aborted) throw new DOMException("aborted", "AbortError");
			throw deadline.aborted
				? new ApiError(`The server did not answer within ${seconds} s.`, 0)
				: new ApiError("The server cannot be reached. Is it running, and is the network up?", 0);
		}
		if (response.ok) return { data: parse(text), text };
		const failure = refusal(response, text);
		if (failure.status === 401 && !open) this.unauthorized(failure);
		throw failure;
	}

	/** As `call`, but returns the parsed body alone. @param {string} path @param {Options} [options] */
	get = async (path, options) => (await this.call("GET", path, options)).data;
	/** @param {string} path @param {any} [body] @param {Options} [options] */
	post = async (path, body, options) => (await this.call("POST", path, { ...options, body })).data;
	/** @param {string} path @param {any} body */
	put = async (path, body) => (await this.call("PUT", path, { body })).data;
	/** @param {string} path @param {any} body */
	patch = async (path, body) => (await this.call("PATCH", path, { body })).data;
	/** @param {string} path */
	delete = async (path) => (await this.call("DELETE", path)).data;

	/**
	 * Reads at most `most` rows of a list, page by page. `done`: there are no more.
	 *
	 * @param {string} path
	 * @param {Options & {most?: number}} [options]
	 */
	async all(path, { most = 1000, query, ...options } = {}) {
		/** @type {any[]} */
		const data = [];
		let iterator;
		// Pages may be short or empty without being the last, so their number is bounded, too.
		for (let pages = 0; pages < 20 && data.length < most; pages++) {
			const page = await this.get(path, { ...options, query: { limit: 250, ...query, iterator } });
			data.push(...page.data);
			if (page.done) return { data, done: true };
			iterator = page.iterator;
		}
		return { data, done: false };
	}
}

/** A text that nobody guesses, also where `crypto.randomUUID` is missing (plain HTTP). */
export function random() {
	return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

function parse(text) {
	try {
		return text ? JSON.parse(text) : undefined;
	} catch {
		return undefined;
	}
}

function refusal(response, text) {
	const { detail, code } = parse(text) ?? {};
	const rule = ({ loc = [], msg }) => `${loc.slice(1).join(".") || loc}: ${msg}`;
	let message = (Array.isArray(detail) ? detail.map(rule).join(" · ") : typeof detail === "string" && detail) ||
		`The server answered ${response.status} ${response.statusText}`.trim() + ".";
	const wait = response.headers.get("retry-after");
	if (wait) message += ` Try again in ${wait} s.`;
	return new ApiError(message, response.status, code, response.headers.get("x-request-id"));
}
