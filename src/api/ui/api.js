/** Speaks to the API: token, deadlines, paging, and errors in the server's words. Decides nothing about what is shown. */

/** A request that did not succeed. `status` 0 means that no answer came. */
export class ApiError extends Error {
	constructor(message, status, requestId = null) {
		super(message);
		this.status = status;
		this.requestId = requestId;
	}
}

/** A path whose variable parts are encoded: path`app/${id}/msg`. */
export function path(texts, ...values) {
	return texts.reduce((whole, text, i) => whole + encodeURIComponent(values[i - 1]) + text);
}

/** Whether an error only says that the caller itself gave up the request. */
export const isAborted = (error) => error?.name === "AbortError";

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
	/** @param {string} page begins the idempotency keys @param {() => string | null} token @param {(error: ApiError) => void} unauthorized */
	constructor(page, token, unauthorized) {
		this.base = new URL("api/v1/", document.baseURI);
		this.page = page;
		this.token = token;
		this.unauthorized = unauthorized;
	}

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
	 * ended it. A body that is a text is sent as it is, anything else as JSON; `open` sends no token.
	 *
	 * @param {string} method
	 * @param {string} path
	 * @param {{query?: Record<string, any>, body?: any, signal?: AbortSignal, open?: boolean}} [options]
	 */
	async call(method, path, { query, body, signal, open } = {}) {
		const headers = new Headers({ accept: "application/json" });
		if (!open && this.token()) headers.set("authorization", `Bearer ${this.token()}`);
		if (body !== undefined) headers.set("content-type", "application/json");
		// A proxy that repeats a POST must do no harm.
		if (method === "POST") headers.set("idempotency-key", `${this.page}-${random()}`);
		const deadline = AbortSignal.timeout(15_000);
		let response, text;
		try {
			response = await fetch(this.url(path, query), {
				method,
				headers,
				body: body === undefined || typeof body === "string" ? body : JSON.stringify(body),
				signal: AbortSignal.any(signal ? [signal, deadline] : [deadline]),
				credentials: "omit",
				cache: "no-store",
				referrerPolicy: "no-referrer",
			});
			text = await response.text();
		} catch {
			if (signal?.aborted) throw new DOMException("aborted", "AbortError");
			const why = deadline.aborted ? "did not answer within 15 s." : "cannot be reached. Is it running?";
			throw new ApiError(`The server ${why}`, 0);
		}
		if (response.ok) return { data: parse(text), text };
		const failure = refusal(response, text);
		if (failure.status === 401 && !open) this.unauthorized(failure);
		throw failure;
	}

	/** As `call`, but these return the parsed body alone. */
	get = async (path, options = {}) => (await this.call("GET", path, options)).data;
	post = async (path, /** @type {any} */ body = undefined, options = {}) =>
		(await this.call("POST", path, { ...options, body })).data;
	put = async (path, body) => (await this.call("PUT", path, { body })).data;
	patch = async (path, body) => (await this.call("PATCH", path, { body })).data;
	delete = async (path) => (await this.call("DELETE", path)).data;

	/** Reads at most `most` rows of a list, page by page. `done`: there are no more. */
	async all(path, { most = 1000, query = /** @type {any} */ ({}), signal }) {
		/** @type {any[]} */
		const data = [];
		let { iterator } = query;
		// Pages may be short or empty without being the last, so their number is bounded, too.
		for (let pages = 0; pages < 20 && data.length < most; pages++) {
			const page = await this.get(path, { signal, query: { limit: 250, ...query, iterator } });
			data.push(...page.data);
			iterator = page.iterator;
			if (page.done) return { data, iterator, done: true };
		}
		return { data, iterator, done: false };
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
	const detail = parse(text)?.detail, wait = response.headers.get("retry-after");
	const rule = ({ loc = [], msg }) => `${loc.slice(1).join(".") || loc}: ${msg}`;
	const said = Array.isArray(detail) ? detail.map(rule).join(" · ") : detail;
	const message = said || `The server answered ${response.status}.`;
	const whole = message + (wait ? ` Try again in ${wait} s.` : "");
	return new ApiError(whole, response.status, response.headers.get("x-request-id"));
}
