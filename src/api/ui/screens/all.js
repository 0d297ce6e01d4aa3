/**
 * The screens of the console and their routes.
 *
 * @module
 */

import { find } from "./find.js";
import { message } from "./message.js";

/** @typedef {import("../console.js").Context} Context */

/** @type {[pattern: string, screen: (context: Context) => Node][]} */
export const screens = [
	["find", find],
	["app/:app/msg/:msg", message],
];
