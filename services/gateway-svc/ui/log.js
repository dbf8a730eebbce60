// What a session's events mean: a pure reducer from events to rows. The same events give the same rows, in every
// browser. Each event costs the same, however long the log is: it changes one row, or adds one.

const KINDS = [
  "stateChanged", "promptAccepted", "turnStarted", "turnEnded", "userMessageChunk", "agentMessageChunk",
  "agentThoughtChunk", "toolCall", "toolCallUpdate", "plan", "usage", "modeChanged", "configChanged",
  "permissionRequested", "permissionResolved", "agentLog", "error", "quiet", "restored", "unknown", "fileAccess",
];

export const word = (name = "", prefix = "") => name.slice(prefix.length).toLowerCase().replaceAll("_", " ");

// Text or path: {"base64"} is what is not Unicode.
const plain = (value) => (typeof value === "string" ? value : value?.base64 ? "(binary)" : "");

export function contentText(block = {}) {
  if (block.text !== undefined) return block.text;
  if (block.image) return `[picture ${block.image.mimeType || ""}]`;
  if (block.audio) return `[sound ${block.audio.mimeType || ""}]`;
  if (block.resourceLink) return `[${block.resourceLink.name || block.resourceLink.uri}]`;
  return block.json === undefined ? "" : JSON.stringify(block.json);
}

export class Log {
  constructor() {
    this.clear();
  }

  clear() {
    this.rows = [];
    this.seq = 0n;
    this.state = "";
    this.turn = "0";
    this.tokens = null;
    this.prompts = new Map(); // turn -> row
    this.tools = new Map(); // turn/id -> row
    this.plans = new Map(); // turn -> row
    this.permissions = new Map(); // id -> row
    this.pending = new Set(); // rows of permissions without an answer
  }

  // Applies the next event; older ones are ignored. Returns the row that changed or was added, or null.
  apply(event) {
    const seq = BigInt(event.seq);
    if (seq <= this.seq) return null;
    this.seq = seq;
    const kind = KINDS.find((name) => event[name] !== undefined);
    return kind ? this[kind](event[kind], event.turn || "0", event) : this.#note(event, "an event of a newer kind");
  }

  #add(kind, event, fields) {
    const row = { key: event.seq, kind, turn: event.turn || "0", time: event.time, version: 0, ...fields };
    this.rows.push(row);
    return row;
  }

  #note(event, text, bad = false) {
    return this.#add("note", event, { text, bad });
  }

  #changed(row) {
    row.version++;
    return row;
  }

  #chunk(kind, chunk, turn, event) {
    const last = this.rows.at(-1);
    const id = chunk.messageId || "";
    const text = contentText(chunk.content);
    if (last?.kind === kind && last.turn === turn && last.messageId === id) {
      last.text += text;
      return this.#changed(last);
    }
    return this.#add(kind, event, { text, messageId: id });
  }

  stateChanged(body, turn, event) {
    this.state = word(body.state, "SESSION_STATE_");
    const bad = this.state === "failed";
    return body.message || bad ? this.#note(event, `${this.state}: ${body.message || body.reason || ""}`, bad) : null;
  }

  promptAccepted(body, turn, event) {
    const text = (body.content || []).map(contentText).join("\n");
    const row = this.#add("user", event, { text, author: body.author || "", waiting: true });
    this.prompts.set(turn, row);
    return row;
  }

  turnStarted(body, turn) {
    this.turn = turn;
    const row = this.prompts.get(turn);
    if (!row) return null;
    row.waiting = false;
    return this.#changed(row);
  }

  turnEnded(body, turn, event) {
    const reason = word(body.stopReason, "STOP_REASON_");
    const bad = reason === "error" || reason === "agent exited";
    const prompt = this.prompts.get(turn);
    if (prompt?.waiting) {
      prompt.waiting = false;
      this.#changed(prompt);
    }
    this.prompts.delete(turn);
    this.plans.delete(turn);
    return this.#add("end", event, {
      bad,
      text: [reason === "end turn" ? "turn ended" : reason, body.message, body.durationMs && `${(Number(body.durationMs) / 1000).toFixed(1)} s`]
        .filter(Boolean).join(" · "),
    });
  }

  userMessageChunk() {
    return null; // the prompt is there already
  }

  agentMessageChunk(body, turn, event) {
    return this.#chunk("agent", body, turn, event);
  }

  agentThoughtChunk(body, turn, event) {
    return this.#chunk("thought", body, turn, event);
  }

  toolCall(body, turn, event) {
    const key = `${turn}/${body.toolCallId}`;
    let row = this.tools.get(key);
    if (!row) {
      row = this.#add("tool", event, { title: "", tool: "", status: "", where: [], output: [] });
      this.tools.set(key, row);
    }
    if (body.title) row.title = body.title;
    if (body.toolKind) row.tool = body.toolKind;
    if (body.status) row.status = word(body.status, "TOOL_CALL_STATUS_");
    if (body.locations) row.where = body.locations.map((l) => plain(l.path) + (l.line ? `:${l.line}` : ""));
    if (body.content) row.output = body.content;
    return this.#changed(row);
  }

  toolCallUpdate(body, turn, event) {
    return this.toolCall(body, turn, event);
  }

  plan(body, turn, event) {
    let row = this.plans.get(turn);
    if (!row) {
      row = this.#add("plan", event, {});
      this.plans.set(turn, row);
    }
    row.entries = body.entries || [];
    return this.#changed(row);
  }

  usage(body) {
    this.tokens = body;
    return null;
  }

  modeChanged(body, turn, event) {
    return this.#note(event, `mode ${body.modeId}`);
  }

  configChanged() {
    return null;
  }

  permissionRequested(body, turn, event) {
    const row = this.#add("permission", event, {
      permissionId: body.permissionId,
      title: body.toolCall?.title || "a permission",
      options: body.options || [],
      answer: null,
    });
    this.permissions.set(body.permissionId, row);
    this.pending.add(row);
    return row;
  }

  permissionResolved(body) {
    const row = this.permissions.get(body.permissionId);
    if (!row) return null;
    const option = row.options.find((o) => o.optionId === body.optionId);
    row.answer = {
      outcome: word(body.outcome, "PERMISSION_OUTCOME_"),
      option: option?.name || body.optionId || "",
      author: body.author || "",
    };
    this.pending.delete(row);
    return this.#changed(row);
  }

  agentLog(body, turn, event) {
    return this.#add("log", event, { text: body.text || "" });
  }

  error(body, turn, event) {
    return this.#note(event, `${body.reason}: ${body.message || ""}`, true);
  }

  quiet(body, turn, event) {
    return this.#note(event, `the agent has said nothing for ${Math.round(Number(body.silentMs || 0) / 1000)} s`);
  }

  restored(body, turn, event) {
    return this.#note(event, `a new agent process took up the conversation (${word(body.method, "RESTORE_METHOD_")})`);
  }

  unknown(body, turn, event) {
    return this.#note(event, `the agent sent ${body.name || "a message"} of a kind this page does not know`);
  }

  fileAccess(body, turn, event) {
    const what = body.errorReason ? "was refused" : body.written ? "wrote" : "read";
    const size = body.errorReason ? ` (${body.errorReason})` : ` (${body.size || 0} bytes)`;
    return this.#note(event, `the agent ${what} ${plain(body.path)}${size}`, Boolean(body.errorReason));
  }

  // A hole in the history, told by the server.
  gap(first) {
    const row = { key: `gap-${first}`, kind: "note", turn: "0", version: 0, bad: true, text: `events before ${first} are no longer kept` };
    this.rows.push(row);
    return row;
  }
}
