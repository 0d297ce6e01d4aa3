/**
 * Asks again and again, so that a screen shows what is now: never twice at once, not in a hidden tab, and not while a
 * person has paused it. A server that fails or is slow is asked less often.
 */

import { isAborted } from "./api.js";

const MOST_SECONDS = 30;

export const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

export const live = {
	/** The one switch for everything on the page. */
	paused: false,

	/**
	 * Calls `ask` now, even if paused, and then again `seconds` after each end of it until `signal` ends.
	 *
	 * @param {AbortSignal} signal
	 * @param {() => Promise<unknown>} ask reports its own errors, and rejects to be asked less often
	 */
	async every(signal, ask, seconds = 2) {
		for (let pause = seconds; !signal.aborted;) {
			const began = Date.now();
			try {
				await ask();
				pause = Math.min(Math.max(seconds, 3 * (Date.now() - began) / 1000), MOST_SECONDS);
			} catch (error) {
				if (isAborted(error)) return;
				pause = Math.min(pause * 2, MOST_SECONDS);
			}
			await sleep(pause);
			while (!signal.aborted && (document.hidden || live.paused)) await sleep(0.5);
		}
	},
};
