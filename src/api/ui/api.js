/**
 * Speaks to the API: bearer token, a deadline for each request, paging, and errors in the server's own
 * words. It decides nothing about what is shown.
 *
 * @module
 */

/** @typedef {{query?: Record<string, any>, body?: any, signal?: AbortSignal, seconds?: number, open?: boolean}} Options */
/** @typedef {{data: any, text: string}} Response */
/** @typedef {{data: any[], iterator: string | null, done: boolean, text?: string}} Page */

/** A request that did not succeed. Its message is the server's sentence, or says that there was no answer. */
export class ApiError extends Error {
	/**
	 * @param {string} message
	 * @param {number} status the HTTP status; 0 means that no answer came
	 * @param {string} code the server's `code`
	 * @param {{field: string, rule: string}[]} rules the broken rules of a 422
	 * @param {string | null} requestId
	 */
	constructor(message, status, code = "", rules = [], requestId = null) {
		super(message);
		this.status = status;
		this.code = code;
		this.rules = rules;
		this.requestId = requestId;
	}
}

/**
 * Builds a path whose variable parts are encoded: path`app/${id}/msg`.
 *
 * @param {TemplateStringsArray} texts
 * @param {...(string | number)} values
 */
export function path(texts, ...values) {
	return texts.reduce((whole, text, i) => whole + encodeURIComponent(String(values[i - 1])) + text);
}

/** Whether an error only says that the caller itself gave up the request. @param {unknown} error */
export function isAborted(error) {
	return error instanceof DOMException && error.name === "AbortError";
}

/**
 * Makes signals for requests of which only the newest counts: each call aborts the request before it.
 *
 * @param {AbortSignal} [outer] ends all of them
 */
export function newest(outer) {
	/** @type {AbortController | undefined} */
	let controller;
	return () => {
		controller?.abort();
		controller = new AbortController();
		return outer ? AbortSignal.any([outer, controller.signal]) : controller.signal;
	};
}

/** The access to the API of one page, with one token. */
export class Api {
	/**
	 * @param {object} settings
	 * @param {URL} settings.base ends in `api/v1/`
	 * @param {() => string | null} settings.token
	 * @param {(error: ApiError) => void} [settings.unauthorized] is told of each 401
	 */
	constructor({ base, token, unauthorized }) {
		this.base = base;
		this.token = token;
		this.unauthorized = unauthorized ?? (() => {});
	}

	/** The address of a path, relative to `api/v1/`. @param {string} path @param {Record<string, any>} [query] */
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
	 * Sends a request and returns the body, parsed and as text. A POST carries an idempotency key, so that a
	 * proxy that repeats it does no harm. Rejects with an ApiError, or with an AbortError if `signal` ended it.
	 *
	 * @param {string} method
	 * @param {string} path
	 * @param {Options} [options] `body`: a string is sent as it is, anything else as JSON; `open`: without token
	 * @returns {Promise<Response>}
	 */
	async call(method, path, { query, body, signal, seconds = 15, open } = {}) {
		const token = open ? null : this.token();
		/** @type {Record<string, string>} */
		const headers = { accept: "application/json" };
		if (token) headers.authorization = `Bearer ${token}`;
		if (body !== undefined) headers["content-type"] = "application/json";
		if (method === "POST") headers["idempotency-key"] = `console-${random()}`;
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
				? new ApiError(`The server did not answer within ${seconds} s.`, 0, "timeout")
				: new ApiError("The server cannot be reached. Is it running, and is the network up?", 0, "network");
		}
		if (response.ok) return { data: parse(text), text };
		const failure = refusal(response, text);
		if (failure.status === 401 && !open) this.unauthorized(failure);
		throw failure;
	}

	/** @param {string} path @param {Options} [options] @returns {Promise<any>} */
	async get(path, options) {
		return (await this.call("GET", path, options)).data;
	}

	/** @param {string} path @param {any} [body] @param {Options} [options] @returns {Promise<any>} */
	async post(path, body, options) {
		return (await this.call("POST", path, { ...options, body })).data;
	}

	/** @param {string} path @param {any} body @param {Options} [options] @returns {Promise<any>} */
	async put(path, body, options) {
		return (await this.call("PUT", path, { ...options, body })).data;
	}

	/** @param {string} path @param {any} body @param {Options} [options] @returns {Promise<any>} */
	async patch(path, body, options) {
		return (await this.call("PATCH", path, { ...options, body })).data;
	}

	/** @param {string} path @param {Options} [options] @returns {Promise<any>} */
	async delete(path, options) {
		return (await this.call("DELETE", path, options)).data;
	}

	/**
	 * Reads at most `most` rows of a list, page by page.
	 *
	 * @param {string} path
	 * @param {Options & {most?: number}} [options]
	 * @returns {Promise<{data: any[], done: boolean}>} `done`: there are no more
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
	return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0"))
		.join("");
}

/** @param {string} text */
function parse(text) {
	try {
		return text ? JSON.parse(text) : undefined;
	} catch {
		return undefined;
	}
}

/** @param {globalThis.Response} response @param {string} text @returns {ApiError} */
function refusal(response, text) {
	const body = parse(text);
	const detail = body?.detail;
	/** @type {{field: string, rule: string}[]} */
	const rules = Array.isArray(detail)
		? detail.map((rule) => ({
			field: (rule.loc ?? []).slice(1).join(".") || String(rule.loc),
			rule: rule.msg,
		}))
		: [];
	let message = rules.map((rule) => `${rule.field}: ${rule.rule}`).join(" · ") ||
		(typeof detail === "string" && detail) ||
		`The server answered ${response.status} ${response.statusText}`.trim() + ".";
	const wait = response.headers.get("retry-after");
	if (wait) message += ` Try again in ${wait} s.`;
	return new ApiError(
		message,
		response.status,
		body?.code ?? "",
		rules,
		response.headers.get("x-request-id"),
	);
}
