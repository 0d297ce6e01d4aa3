/**
 * The screens of the portal and their routes, named as the parameter `next` of Svix names them.
 *
 * @module
 */

import { access } from "./access.js";
import { addEndpoint, endpoints } from "./endpoints.js";
import { deliveries, settings, setup } from "./endpoint.js";
import { eventType, eventTypeList } from "./event-types.js";
import { message, messages } from "./messages.js";
import { verify } from "./verify.js";

/** @typedef {import("../portal.js").Context} Context */

/** @type {[pattern: string, screen: (context: Context) => Node][]} */
export const screens = [
	["endpoints", endpoints],
	["endpoints/new", addEndpoint],
	["endpoints/:endpoint", deliveries],
	["endpoints/:endpoint/setup", setup],
	["endpoints/:endpoint/settings", settings],
	["messages", messages],
	["messages/:message", message],
	["event-types", eventTypeList],
	["event-types/:type", eventType],
	["verify", verify],
	["access", access],
];
