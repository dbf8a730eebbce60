// The page: sessions on the left, one of them on the right, followed live.

import { Api, Problem } from "./api.js";
import { Log, word } from "./log.js";
import { View, make, optionButtons, setBadge } from "./view.js";

const $ = (id) => document.getElementById(id);
const LIST_MS = 2000;
const TYPING_MS = 4000;

// ---- token: of this tab only, never in an address ----

let asking = null;

function askToken(refused) {
  asking ??= new Promise((done) => {
    $("wrong").hidden = !refused;
    $("login").addEventListener("close", () => {
      sessionStorage.setItem("token", $("token").value.trim());
      $("token").value = "";
      asking = null;
      done();
    }, { once: true });
    $("login").showModal();
  });
  return asking;
}
$("login").addEventListener("cancel", (event) => event.preventDefault());

const api = new Api({ token: () => sessionStorage.getItem("token") || "", ask: askToken });

let noticeTimer = 0;
function notice(error) {
  if (error?.name === "AbortError") return;
  $("notice").textContent = error instanceof Problem ? error.message : `${error?.message || error}`;
  $("notice").hidden = false;
  clearTimeout(noticeTimer);
  noticeTimer = setTimeout(() => ($("notice").hidden = true), 6000);
}
const attempt = (promise) => promise.catch(notice);

// ---- the list of sessions ----

const sessionPath = (id) => `/v1/sessions/${encodeURIComponent(id)}`;
let current = null; // the followed session: {id, log, stop, ...}
let shown = "";

function drawSessions(sessions) {
  const text = JSON.stringify(sessions.map((s) => [s.sessionId, s.agent, s.state, s.pendingPermissions])) + current?.id;
  if (text === shown) return;
  shown = text;
  const links = sessions.map((s) => {
    const link = make("a");
    link.href = `/ui/sessions/${s.sessionId}`;
    if (s.sessionId === current?.id) link.setAttribute("aria-current", "page");
    const state = make("span");
    setBadge(state, s.pendingPermissions ? "waiting" : word(s.state, "SESSION_STATE_"));
    const when = new Date(s.createTime).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
    link.append(make("span", "who", s.labels?.title || s.agent), state, make("span", "when", `${when} · ${s.sessionId.slice(-6)}`));
    return link;
  });
  $("sessions").replaceChildren(...(links.length ? links : [make("p", "", "No sessions yet.")]));
}

async function refresh() {
  try {
    const { sessions } = await api.json("GET", "/v1/sessions?pageSize=200");
    drawSessions(sessions);
    setBadge($("server"), "live");
  } catch (error) {
    setBadge($("server"), "offline");
  }
}

// Many sessions may change at once: one look is enough.
let soon = 0;
function refreshSoon() {
  soon ||= setTimeout(() => {
    soon = 0;
    refresh();
  }, 150);
}

async function listLoop() {
  for (;;) {
    if (!document.hidden) await refresh();
    await new Promise((go) => setTimeout(go, LIST_MS));
  }
}

async function loadAgents() {
  const { agents } = await api.json("GET", "/v1/agents");
  for (const agent of agents) {
    const option = make("option", "", `${agent.title || agent.agent}${agent.installed ? "" : " (not installed)"}`);
    option.value = agent.agent;
    $("agent").append(option);
  }
  const usable = agents.find((a) => a.installed);
  if (usable) $("agent").value = usable.agent;
}

$("create").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(api.json("POST", "/v1/sessions", { agent: $("agent").value, requestId: crypto.randomUUID() })
    .then(({ session }) => go(`/ui/sessions/${session.sessionId}`)));
});

// ---- one session ----

const NEAR = 80; // pixels from the end that count as the end
const nearEnd = () => $("scroll").scrollHeight - $("scroll").scrollTop - $("scroll").clientHeight < NEAR;
let following = true;
let endTop = 0; // where the last toEnd left the reader
let unseen = 0;

function follow() {
  following = true;
  endTop = 0;
}

function toEnd() {
  $("scroll").scrollTop = $("scroll").scrollHeight;
  endTop = $("scroll").scrollTop;
  unseen = 0;
  $("more").hidden = true;
}

// Who has scrolled up is not pulled back by what comes before the event of the scroll.
function stillFollowing() {
  if ($("scroll").scrollTop < endTop - NEAR) following = false;
  return following;
}

$("scroll").addEventListener("scroll", () => {
  following = nearEnd();
  if (following) toEnd();
}, { passive: true });
$("more").addEventListener("click", () => {
  following = true;
  toEnd();
});

const outOfSight = new Set(); // questions
const view = new View($("rows"), {
  answer,
  question(row, visible) {
    if (visible) outOfSight.delete(row);
    else outOfSight.add(row);
    if (current) drawDock(current);
  },
  drawn(added) {
    if (stillFollowing()) return toEnd();
    unseen += added;
    $("more").textContent = `${unseen} new`;
    $("more").hidden = unseen === 0;
  },
});

// The browser finds out how high a row is when it first draws it.
new ResizeObserver(() => stillFollowing() && toEnd()).observe($("rows"));

function answer(row, option, buttons) {
  for (const button of buttons.children) button.disabled = true;
  const path = `${sessionPath(current.id)}/permissions/${encodeURIComponent(row.permissionId)}/answer`;
  attempt(api.json("POST", path, { optionId: option.optionId }).finally(() => {
    for (const button of buttons.children) button.disabled = false;
  }));
}

// Questions that wait stay in sight, wherever the reader is.
function drawDock(session) {
  const cards = [...session.log.pending].filter((row) => outOfSight.has(row)).map((row) => {
    const card = make("div");
    card.append(make("strong", "", row.title), optionButtons(row, answer));
    return card;
  });
  $("dock").replaceChildren(...cards);
}

function drawHead(session) {
  const { log } = session;
  setBadge($("state"), log.state);
  const over = log.state === "destroyed";
  const busy = log.state === "running" || log.state === "waiting";
  $("cancel").hidden = !busy;
  $("destroy").hidden = over;
  $("composer").hidden = over;
}

function onMessage(session, message) {
  if (message.event === "message") {
    const event = JSON.parse(message.data);
    const waiting = session.log.pending.size;
    const row = session.log.apply(event);
    if (row) view.change(row);
    if (event.stateChanged) {
      drawHead(session);
      refreshSoon();
    }
    if (session.log.pending.size !== waiting) drawDock(session);
  } else if (message.event === "reset") {
    session.log.clear();
    endTop = 0;
    view.clear();
    drawDock(session);
  } else if (message.event === "gap") {
    view.change(session.log.gap(JSON.parse(message.data).firstAvailableSeq));
  }
}

async function open(id) {
  const stop = new AbortController();
  const session = { id, stop, log: new Log(), member: null, typed: 0 };
  current = session;
  follow();
  view.clear();
  $("empty").hidden = true;
  $("name").textContent = "";
  $("id").textContent = id;
  drawDock(session);
  try {
    const { session: s } = await api.json("GET", sessionPath(id), undefined, { signal: stop.signal });
    $("name").textContent = s.labels?.title || s.agent;
    document.title = `${s.agent} · Sandbox Agent`;
    session.log.state = word(s.state, "SESSION_STATE_");
    drawHead(session);
    stayPresent(session);
    await api.follow(id, {
      signal: stop.signal,
      on: (message) => onMessage(session, message),
      status: (state) => current === session && setBadge($("link"), state),
    });
  } catch (error) {
    if (stop.signal.aborted) return;
    $("name").textContent = error.status === 404 ? "No such session" : "No session";
    $("composer").hidden = true;
    notice(error);
  }
}

function close() {
  const session = current;
  current = null;
  session?.stop.abort();
  view.clear();
  outOfSight.clear();
  for (const id of ["state", "link", "cancel", "destroy", "composer", "more"]) $(id).hidden = true;
  $("dock").replaceChildren();
  $("members").replaceChildren();
  $("empty").hidden = false;
  $("name").textContent = "No session";
  $("id").textContent = "";
  document.title = "Sandbox Agent";
  if (session?.member)
    api.request("DELETE", `${sessionPath(session.id)}/members/${session.member}`).catch(() => {});
}

// ---- who is here: a lease that this page keeps ----

function displayName() {
  let name = localStorage.getItem("name");
  if (!name) {
    name = `Guest ${Math.floor(Math.random() * 900 + 100)}`;
    localStorage.setItem("name", name);
  }
  return name;
}

function drawMembers(session, members) {
  $("members").replaceChildren(...members.slice(0, 8).map((m) => {
    const initials = m.displayName.split(/\s+/).map((part) => part[0]).join("").slice(0, 2).toUpperCase();
    const node = make("span", [m.activity, m.memberId === session.member ? "me" : ""].join(" ").trim(), initials);
    node.setAttribute("role", "listitem");
    node.title = `${m.displayName}${m.activity ? ` (${m.activity})` : ""}`;
    return node;
  }));
}

async function keepPresence(session) {
  const path = `${sessionPath(session.id)}/members`;
  const activity = Date.now() - session.typed < TYPING_MS ? "typing" : "";
  try {
    if (session.member)
      await api.json("PATCH", `${path}/${session.member}`, { activity, seenSeq: String(session.log.seq) });
  } catch (error) {
    if (error.status !== 404) throw error;
    session.member = null;
  }
  if (!session.member) session.member = (await api.json("POST", path, { displayName: displayName() })).member.memberId;
  const { members } = await api.json("GET", path);
  if (current === session) drawMembers(session, members);
}

async function stayPresent(session) {
  while (!session.stop.signal.aborted) {
    if (!document.hidden) await keepPresence(session).catch(() => drawMembers(session, []));
    await new Promise((go) => setTimeout(go, LIST_MS));
  }
}

// ---- what a person does ----

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("prompt").value;
  if (!text.trim() || !current) return;
  const session = current;
  session.draft ??= { text, requestId: crypto.randomUUID() };
  if (session.draft.text !== text) session.draft = { text, requestId: crypto.randomUUID() };
  const body = { content: [{ text }], requestId: session.draft.requestId };
  $("prompt").value = "";
  grow();
  follow();
  session.typed = 0;
  api.json("POST", `${sessionPath(session.id)}/prompts`, body).then(() => {
    session.draft = null;
  }, (error) => {
    if (!$("prompt").value) $("prompt").value = text; // the same prompt again is the same request
    grow();
    notice(error);
  });
});

function grow() {
  $("prompt").rows = Math.min(12, $("prompt").value.split("\n").length);
}
$("prompt").addEventListener("input", () => {
  if (current) current.typed = Date.now();
  grow();
});
$("prompt").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
$("cancel").addEventListener("click", () => attempt(api.json("POST", `${sessionPath(current.id)}/cancel`, {})));
$("destroy").addEventListener("click", () => attempt(api.json("DELETE", sessionPath(current.id))));

// ---- addresses ----

function route() {
  const id = decodeURIComponent(location.pathname.match(/^\/ui\/sessions\/([^/]+)$/)?.[1] || "");
  if (current?.id === id) return;
  close();
  document.body.classList.toggle("viewing", id !== "");
  if (id) open(id);
  shown = "";
  refresh();
}

function go(path) {
  history.pushState(null, "", path);
  route();
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='/ui/']");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  go(link.getAttribute("href"));
});
$("back").addEventListener("click", () => go("/ui/"));
addEventListener("popstate", route);
addEventListener("pagehide", () => {
  if (!current?.member) return;
  const token = sessionStorage.getItem("token");
  fetch(`${sessionPath(current.id)}/members/${current.member}`, {
    method: "DELETE",
    keepalive: true,
    headers: token ? { Authorization: `Bearer ${token}` } : {},
  });
});

attempt(loadAgents());
route();
listLoop();
