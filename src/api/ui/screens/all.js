/**
 * The screens of the console and their routes.
 *
 * @module
 */

import { application, applications } from "./applications.js";
import { deliveries } from "./deliveries.js";
import { endpoint } from "./endpoint.js";
import { eventType, eventTypes } from "./event-types.js";
import { find } from "./find.js";
import { message } from "./message.js";
import { overview } from "./overview.js";
import { operational, operationalList } from "./operational.js";
import { send, start } from "./send.js";
import { task, tasks } from "./tasks.js";
import { audit, tokens } from "./tokens.js";

/** @typedef {import("../console.js").Context} Context */

/** @type {[pattern: string, screen: (context: Context) => Node][]} */
export const screens = [
	["find", find],
	["overview", overview],
	["event-type", eventTypes],
	["event-type/:name", eventType],
	["operational", operationalList],
	["operational/:endpoint", operational],
	["send", send],
	["start", start],
	["token", tokens],
	["audit", audit],
	["task", tasks],
	["task/:task", task],
	["app", applications],
	["app/:app", application],
	["app/:app/delivery", deliveries],
	["app/:app/endpoint/:endpoint", endpoint],
	["app/:app/endpoint/:endpoint/:tab", endpoint],
	["app/:app/msg/:msg", message],
];
