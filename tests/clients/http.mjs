// A client of the gateway: JSON calls, and a viewer of a session's events over SSE.
import assert from 'node:assert/strict';

export async function callJson(base, token, method, path, body) {
  const response = await fetch(base + path, {
    method,
    headers: { authorization: `Bearer ${token}`, ...(body === undefined ? {} : { 'content-type': 'application/json' }) },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const answer = await response.text();
  const json = answer ? JSON.parse(answer) : null;
  if (!response.ok) throw Object.assign(new Error(`${method} ${path}: ${response.status} ${answer}`), { status: response.status, problem: json });
  return json;
}

const DEADLINE_MS = 60_000;

// Collects {id, data} of every event, with data as the bytes that came.
export class SseViewer {
  constructor(base, token, sessionId, { lastEventId } = {}) {
    this.events = [];
    this.waiting = new Set();
    this.abort = new AbortController();
    this.done = this.read(base, token, sessionId, lastEventId).catch((error) => (this.error = error));
  }

  async read(base, token, sessionId, lastEventId) {
    const response = await fetch(`${base}/v1/sessions/${sessionId}/events`, {
      signal: this.abort.signal,
      headers: {
        authorization: `Bearer ${token}`, accept: 'text/event-stream', ...(lastEventId ? { 'last-event-id': lastEventId } : {}),
      },
    });
    assert.equal(response.status, 200);
    const decoder = new TextDecoder();
    let text = '';
    for await (const chunk of response.body) {
      text += decoder.decode(chunk, { stream: true });
      const frames = text.split('\n\n');
      text = frames.pop();
      for (const frame of frames) this.take(frame);
      for (const check of [...this.waiting]) check();
    }
  }

  take(frame) {
    const field = (name) => frame.match(new RegExp(`^${name}: ?(.*)$`, 'm'))?.[1];
    if (field('event') || field('data') === undefined) return; // opened, comments
    this.events.push({ id: field('id'), data: field('data') });
  }

  // Waits for an event whose data fits.
  waitFor(fits, what, ms = DEADLINE_MS) {
    return new Promise((resolve, reject) => {
      const finish = (settle, value) => {
        clearTimeout(timer);
        this.waiting.delete(check);
        settle(value);
      };
      let seen = 0;
      const check = () => {
        for (; seen < this.events.length; seen++) {
          const event = JSON.parse(this.events[seen].data);
          if (fits(event)) return finish(resolve, event);
        }
        if (this.error) finish(reject, this.error);
      };
      const timer = setTimeout(() => finish(reject, new Error(`${what}: not within ${ms} ms; ${this.events.length} events so far`)), ms);
      this.waiting.add(check);
      check();
    });
  }

  async close() {
    this.abort.abort();
    await this.done;
  }
}
