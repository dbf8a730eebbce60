// The server's HTTP API: calls, and a stream of events that comes back by itself.

export class Problem extends Error {
  constructor(status, body) {
    super(body?.detail || body?.title || `HTTP ${status}`);
    this.status = status;
    this.type = body?.type || "";
  }
}

// Splits a text/event-stream into messages {id, event, data}. `id` is the last one seen, as browsers have it.
export class EventParser {
  #rest = "";
  #data = [];
  #event = "";
  #id = "";

  constructor(emit) {
    this.emit = emit;
  }

  push(text) {
    const lines = (this.#rest + text).split("\n");
    this.#rest = lines.pop();
    for (const line of lines) this.#line(line.endsWith("\r") ? line.slice(0, -1) : line);
  }

  #line(line) {
    if (line === "") {
      if (this.#data.length) this.emit({ id: this.#id, event: this.#event || "message", data: this.#data.join("\n") });
      this.#data = [];
      this.#event = "";
      return;
    }
    const colon = line.indexOf(":");
    if (colon === 0) return;
    const field = colon < 0 ? line : line.slice(0, colon);
    let value = colon < 0 ? "" : line.slice(colon + 1);
    if (value.startsWith(" ")) value = value.slice(1);
    if (field === "data") this.#data.push(value);
    else if (field === "event") this.#event = value;
    else if (field === "id") this.#id = value;
  }
}

const SILENCE_MS = 40000; // the server gives a sign of life every 15 s
const RETRY_MS = [100, 250, 500, 1000, 2000, 4000];

export class Api {
  // token(): the token or ""; ask(): resolves when the user has given another one.
  constructor({ token, ask, fetch = globalThis.fetch.bind(globalThis) }) {
    this.token = token;
    this.ask = ask;
    this.fetch = fetch;
  }

  async request(method, path, { body, headers = {}, signal } = {}) {
    for (;;) {
      const token = this.token();
      const response = await this.fetch(path, {
        method,
        signal,
        cache: "no-store",
        headers: {
          ...headers,
          ...(token ? { Authorization: `Bearer ${token}` } : {}),
          ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        },
        body: body === undefined ? undefined : JSON.stringify(body),
      });
      if (response.ok) return response;
      const problem = await response.json().catch(() => null);
      if (response.status !== 401) throw new Problem(response.status, problem);
      await this.ask(token);
    }
  }

  async json(method, path, body, options) {
    const response = await this.request(method, path, { ...options, body });
    return response.status === 204 ? null : response.json();
  }

  // Follows a session until signal is aborted. on(message) gets every message; status(word) one of
  // connecting, live, offline, closed.
  async follow(sessionId, { on, status, signal }) {
    let last = "";
    for (let failures = 0; !signal.aborted;) {
      const abort = new AbortController();
      const stop = () => abort.abort();
      signal.addEventListener("abort", stop);
      let timer = setTimeout(stop, SILENCE_MS);
      try {
        status("connecting");
        const response = await this.request("GET", `/v1/sessions/${encodeURIComponent(sessionId)}/events`, {
          signal: abort.signal,
          headers: { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) },
        });
        if (response.status === 204) return status("closed");
        let closed = "";
        const parser = new EventParser((message) => {
          if (message.id) last = message.id;
          if (message.event === "reset") last = "";
          if (message.event === "closed") closed = JSON.parse(message.data).reason;
          on(message);
        });
        status("live");
        const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
        for (;;) {
          const { done, value } = await reader.read();
          if (done) break;
          failures = 0;
          clearTimeout(timer);
          timer = setTimeout(stop, SILENCE_MS);
          parser.push(value);
        }
        if (closed && closed !== "DRAINING") return status("closed");
      } catch (error) {
        if (error instanceof Problem && error.status < 500 && error.status !== 429) throw error;
      } finally {
        clearTimeout(timer);
        signal.removeEventListener("abort", stop);
      }
      if (signal.aborted) return;
      status("offline");
      await new Promise((go) => setTimeout(go, RETRY_MS[Math.min(failures++, RETRY_MS.length - 1)]));
    }
  }
}
