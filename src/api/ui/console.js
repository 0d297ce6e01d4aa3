/** The console, for the people who run Postrider: signing in, and its screens. */

import { Api } from "./api.js";
import { h, p } from "./dom.js";
import { keys } from "./keys.js";
import { framed, root, SITE } from "./page.js";
import { action, failure, field, findForm, form, input, link, loading, mono } from "./parts.js";
import { go, href } from "./route.js";
import { application, applications } from "./screens/applications.js";
import { deliveries } from "./screens/deliveries.js";
import { endpoint } from "./screens/endpoint.js";
import { eventType, eventTypes } from "./screens/event-types.js";
import { find } from "./screens/find.js";
import { message } from "./screens/message.js";
import { operational, operationalList } from "./screens/operational.js";
import { overview } from "./screens/overview.js";
import { poller } from "./screens/polling.js";
import { send, start } from "./screens/send.js";
import { endpointHref, messageHref } from "./screens/shared.js";
import { task, tasks } from "./screens/tasks.js";
import { audit, tokens } from "./screens/tokens.js";

const KEY = "postrider-console";
/** @type {any} */
let who = null;
const api = new Api("console", () => sessionStorage.getItem(KEY), (error) => signIn(error));
const page = framed(
	{
		overview: "Overview",
		app: "Applications",
		"event-type": "Event types",
		task: "Tasks",
		operational: "Operational webhooks",
		token: "Tokens",
		audit: "Audit",
		send: "Send a message",
	},
	{
		find,
		overview,
		"event-type": eventTypes,
		"event-type/:type": eventType,
		operational: operationalList,
		"operational/:endpoint": operational,
		send,
		start,
		token: tokens,
		audit,
		task: tasks,
		"task/:task": task,
		app: applications,
		"app/:app": application,
		"app/:app/delivery": deliveries,
		"app/:app/endpoint/:endpoint": endpoint,
		"app/:app/endpoint/:endpoint/:tab": endpoint,
		"app/:app/msg/:message": message,
		"app/:app/poller/:poller": poller,
	},
	({ app = "" }) => ({
		api,
		who,
		appId: app,
		portal: false,
		may,
		to: {
			endpoint: (id, ...more) => endpointHref(app, id, ...more),
			message: (id, query) => messageHref(app, id, query),
			type: (name) => href(["event-type", name]),
			tag: (tag) => href(["app", app, "delivery"], { tag }),
			poller: (id) => href(["app", app, "poller", id]),
		},
		end: signIn,
	}),
);

begin();

async function begin() {
	keys();
	if (!await redeem()) await (sessionStorage.getItem(KEY) ? enter() : signIn());
	addEventListener("hashchange", async () => {
		if (!await redeem() && who) page.draw();
	});
}

/** Changes the code of a one-time link for a token. Returns whether the address had one. */
async function redeem() {
	const code = new URLSearchParams(location.hash.slice(1)).get("code");
	if (!code) return false;
	history.replaceState(null, "", location.pathname + location.search);
	who = null;
	try {
		const { token } = await api.post("auth/console-session", { code }, { open: true });
		sessionStorage.setItem(KEY, token);
		await enter();
	} catch (error) {
		signIn(error, "This link did not sign you in: a link works once, and only for a few minutes.");
	}
	return true;
}

/** Learns whose the token is, and draws the frame and the screen. */
async function enter() {
	if (!root.querySelector("main")) page.instead(loading());
	try {
		const known = await api.get("auth/whoami");
		if (known.role === "portal") {
			return signIn(new Error("This token belongs to one application. The console needs one of the organization."));
		}
		who = known;
		frame();
		page.draw();
	} catch (error) {
		who = null;
		if (error.status !== 401) page.instead(failure(error, enter));
	}
}

/** Asks for a token. The address stays, so that signing in leads back. */
function signIn(error, text) {
	if (who) text ??= "Your session has ended: the token has expired or was revoked. Signing in leads back.";
	who = null;
	sessionStorage.removeItem(KEY);
	document.title = `Sign in · ${SITE}`;
	const token = input({ type: "password", required: true, class: "mono", name: "token" });
	const run = async () => {
		sessionStorage.setItem(KEY, token.value.trim());
		await enter();
	};
	const hint = ["Made on the server by ", mono("app token create"), ". It is kept until this tab is closed."];
	page.instead(h(
		"section.sign-in",
		h("h1", "Postrider"),
		text && h("p", text),
		error && failure(error),
		form({ button: "Sign in", run }, field("Token", token, hint)),
		p`Or make a link that signs you in: ${mono("app console")}.`,
	));
	token.focus();
}

function frame() {
	const find = findForm("any id, uid, event id or tag", (q) => go(href(["find"], { q })));
	page.frame(
		[link("Postrider", "#/", { class: "brand" }), find],
		[h("span", [who.name, who.role].filter(Boolean).join(" · ")), action("Sign out", () => (who = null, signIn()))],
	);
}

/** @type {Context["may"]} */
function may(right) {
	const roles = ["admin", ...({ operate: ["operator"], turn: ["operator"], send: ["sender"] }[right] ?? [])];
	return roles.includes(who?.role) ? null : `Your token has the role ${who?.role}. This needs ${roles.join(" or ")}.`;
}
