/**
 * The screens of the console and their routes.
 *
 * @module
 */

/** @typedef {import("../console.js").Context} Context */

/** @type {[pattern: string, screen: (context: Context) => Node][]} */
export const screens = [];
