/**
 * Asks again and again, so that a screen shows what is now: never twice at once, not in a hidden tab, and not while a
 * person has paused it. A server that fails or is slow is asked less often.
 */

import { isAborted } from "./api.js";

const MOST_SECONDS = 30;

class Live extends EventTarget {
	paused = false;

	/** The one switch for everything on the page. */
	pause(paused) {
		this.paused = paused;
		this.dispatchEvent(new Event("change"));
	}

	/**
	 * Calls `ask` now, even if paused, and then again `seconds` after each end of it until `signal` ends.
	 *
	 * @param {AbortSignal} signal
	 * @param {() => Promise<unknown>} ask reports its own errors, and rejects to be asked less often
	 */
	async every(signal, ask, seconds = 2) {
		for (let pause = seconds; !signal.aborted; await this.#wait(signal, pause)) {
			const began = Date.now();
			try {
				await ask();
				pause = Math.min(Math.max(seconds, 3 * (Date.now() - began) / 1000), MOST_SECONDS);
			} catch (error) {
				if (isAborted(error)) return;
				pause = Math.min(pause * 2, MOST_SECONDS);
			}
		}
	}

	/** Also waits as long as nobody looks or it is paused. */
	async #wait(signal, seconds) {
		await sleep(signal, seconds);
		while (!signal.aborted && (document.hidden || this.paused)) {
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

/** @returns {Promise<void>} */
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

export const live = new Live();
