/**
 * The screens of the console and their routes.
 *
 * @module
 */

import { application, applications } from "./applications.js";
import { deliveries } from "./deliveries.js";
import { endpoint } from "./endpoint.js";
import { find } from "./find.js";
import { message } from "./message.js";
import { overview } from "./overview.js";
import { task, tasks } from "./tasks.js";

/** @typedef {import("../console.js").Context} Context */

/** @type {[pattern: string, screen: (context: Context) => Node][]} */
export const screens = [
	["find", find],
	["overview", overview],
	["task", tasks],
	["task/:task", task],
	["app", applications],
	["app/:app", application],
	["app/:app/delivery", deliveries],
	["app/:app/endpoint/:endpoint", endpoint],
	["app/:app/endpoint/:endpoint/:tab", endpoint],
	["app/:app/msg/:msg", message],
];
