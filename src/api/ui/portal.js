"use strict";
// The token comes in the fragment of the address, which browsers never send to a server. It is kept for this tab only.
const KEY = "postrider-token";
const base = new URL(".", location.href);
const given = new URLSearchParams(location.hash.slice(1)).get("token");
if (given) {
  sessionStorage.setItem(KEY, given);
  history.replaceState(null, "", location.pathname);
}
const token = sessionStorage.getItem(KEY);
addEventListener("hashchange", () => location.reload());

const part = (id) => document.getElementById(id);

function list(id, items, empty) {
  const lines = items.length ? items : [{ text: empty }];
  part(id).replaceChildren(...lines.map(({ text, no }) => {
    const line = document.createElement("li");
    line.textContent = text;
    if (no) line.className = "no";
    return line;
  }));
}

async function ask(path, method = "GET") {
  const answer = await fetch(new URL("api/v1" + path, base), {
    method,
    headers: { authorization: "Bearer " + token },
    cache: "no-store",
    credentials: "omit",
  });
  if (!answer.ok) throw answer.status;
  return answer.status === 204 ? null : answer.json();
}

// Returns all rows of a list, but at most the first 1,000.
async function all(path) {
  const rows = [];
  let after = "";
  for (let pages = 0; pages < 4; pages += 1) {
    const page = await ask(path + "?limit=250" + after);
    rows.push(...page.data);
    if (page.done) break;
    after = "&iterator=" + encodeURIComponent(page.iterator);
  }
  return rows;
}

function rights({ capabilities, featureFlags }) {
  const may = (...wanted) => !capabilities || wanted.some((capability) => capabilities.includes(capability));
  const manages = may("ManageEndpoint");
  const right = (allowed, text) => ({ text: text + (allowed ? "" : ": no"), no: !allowed });
  const flags = featureFlags && featureFlags.length ? ", those behind " + featureFlags.join(", ") + " too" : "";
  return [
    right(true, "See endpoints, messages and attempts"),
    right(true, "See event types" + flags),
    right(manages, "Create, change and delete endpoints"),
    right(manages || may("ViewEndpointSecret", "ManageEndpointSecret"), "See signing secrets"),
    right(manages || may("ManageEndpointSecret"), "Replace signing secrets"),
    right(may("CreateAttempts"), "Send messages again"),
  ];
}

async function show() {
  const access = await ask("/auth/token");
  if (!access.applicationId) {
    part("state").textContent = "This token is of the whole organization; this page is for those of an application.";
    return;
  }
  const path = "/app/" + encodeURIComponent(access.applicationId);
  const [application, endpoints, types] = await Promise.all([ask(path), all(path + "/endpoint"), all("/event-type")]);
  part("title").textContent = application.name;
  document.title = application.name + " – webhooks";
  const end = access.expiresAt && new Date(access.expiresAt);
  part("end").textContent = end ? end.toLocaleString() : "never";
  if (end) part("end").dateTime = access.expiresAt;
  list("rights", rights(access));
  list("endpoints", endpoints.map(({ url, disabled }) => ({ text: url + (disabled ? " (disabled)" : ""), no: disabled })), "None yet.");
  list("types", types.map(({ name, description }) => ({ text: description ? name + ": " + description : name })), "None yet.");
  part("state").hidden = true;
  part("known").hidden = false;
}

function fail(status) {
  const ended = status === 401 || status === 404;
  if (ended) sessionStorage.removeItem(KEY);
  part("known").hidden = true;
  part("state").hidden = false;
  part("state").textContent = ended
    ? "This access has ended. Ask for a new link where you got this one."
    : "The server does not answer as it should. Try again later.";
}

async function leave() {
  await ask("/auth/logout", "POST");
  fail(401);
}

part("leave").addEventListener("click", () => leave().catch(fail));
if (token) show().catch(fail);
else part("state").textContent = "There is no token in this address. Open the link that you were given.";
