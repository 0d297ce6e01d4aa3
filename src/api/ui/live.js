/**
 * Asks again and again, so that a screen shows what is now. It asks every 2 seconds, never twice at once,
 * not in a hidden tab, and not while a person has paused it; a server that fails is asked less and less.
 *
 * @module
 */

import { isAborted } from "./api.js";

const SECONDS = 2;
const MOST_SECONDS = 30;

class Live extends EventTarget {
	#paused = false;

	get paused() {
		return this.#paused;
	}

	/** The one switch for everything on the page. @param {boolean} paused */
	pause(paused) {
		this.#paused = paused;
		this.dispatchEvent(new Event("change"));
	}

	/**
	 * Calls `ask` now, and then again `seconds` after each end of it until `signal` ends. The first call is
	 * made even if paused.
	 *
	 * @param {AbortSignal} signal
	 * @param {(signal: AbortSignal) => Promise<unknown>} ask reports its own errors, and rejects to be asked less often
	 * @param {{seconds?: number, later?: boolean}} [options] `later`: does not ask at once
	 */
	async every(signal, ask, { seconds = SECONDS, later = false } = {}) {
		let pause = seconds;
		for (let first = !later; !signal.aborted; first = false) {
			if (!first) {
				await this.#wait(signal, pause);
				if (signal.aborted) return;
			}
			const began = Date.now();
			try {
				await ask(signal);
				// A slow server is not kept busy by those who only look.
				pause = Math.min(Math.max(seconds, 3 * (Date.now() - began) / 1000), MOST_SECONDS);
			} catch (error) {
				if (isAborted(error)) return;
				pause = Math.min(pause * 2, MOST_SECONDS);
			}
		}
	}

	/** Waits, and as long as nobody looks or it is paused. @param {AbortSignal} signal @param {number} seconds */
	async #wait(signal, seconds) {
		await sleep(signal, seconds);
		while (!signal.aborted && (document.hidden || this.#paused)) {
			await new Promise((done) => {
				const stop = new AbortController();
				const resume = () => (stop.abort(), done(undefined));
				signal.addEventListener("abort", resume, { signal: stop.signal });
				document.addEventListener("visibilitychange", resume, { signal: stop.signal });
				this.addEventListener("change", resume, { signal: stop.signal });
			});
		}
	}
}

/** @param {AbortSignal} signal @param {number} seconds @returns {Promise<void>} */
export function sleep(signal, seconds) {
	return new Promise((done) => {
		if (signal.aborted) return done();
		const timer = setTimeout(finish, seconds * 1000);
		signal.addEventListener("abort", finish);
		function finish() {
			clearTimeout(timer);
			signal.removeEventListener("abort", finish);
			done();
		}
	});
}

/** The page's clock for refreshing. */
export const live = new Live();
