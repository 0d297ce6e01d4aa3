/** The portal's list of endpoints, and the form that adds one. */

import { h } from "../dom.js";
import { form, link, say, section } from "../parts.js";
import { go, href } from "../route.js";
import { endpointFields } from "../screens/endpoint-form.js";
import { endpointList } from "../screens/endpoints.js";
import { head, limits, permitted } from "../screens/shared.js";

/** @param {Context} context */
export function endpoints(context) {
	const { appId, to } = context;
	const add = () =>
		permitted(context, "manage", "Add endpoint", () => go(href(["endpoints", "new"])), { kind: "main" });
	const none = () => [h("p", "No endpoint yet. It is an address of your server that messages are sent to."), add()];
	return h(
		"div",
		head("Endpoints", [], add()),
		limits(context, "manage"),
		h("section", endpointList(context, appId, to.endpoint, none)),
	);
}

/** @param {Context} context */
export function addEndpoint(context) {
	const { api, app, to, may } = context;
	const fields = endpointFields(context);
	const run = async () => {
		const { id } = await api.post(`${app}/endpoint`, fields.read());
		say("Endpoint added");
		go(`${to.endpoint(id, "setup")}?new=1`);
	};
	return h(
		"div",
		head("Add endpoint", [link("Endpoints", href(["endpoints"]))]),
		may("manage") ? limits(context, "manage") : section("", form({ button: "Add endpoint", run }, fields.node)),
	);
}
