// A scripted model endpoint for tests: Anthropic Messages, OpenAI Responses and OpenAI Chat Completions on loopback.
// What it says is in script.mjs, how it says it in dialects.mjs.
//
//   const model = await startModel();          // model.url, model.requests, model.close()
//   node tests/model/model.mjs [--port N]      // prints its URL; GET /__log tells the requests so far
import http from 'node:http';
import { pathToFileURL } from 'node:url';
import { anthropic, completions, halves, responses } from './dialects.mjs';
import { answer } from './script.mjs';

const SLOW_MS = 20;
const BODY_LIMIT = 64 << 20;

// Each entry of `requests`: {path, model, prompt (the last one), prompts (how many so far), step, tools: [names],
// status, closed: 'answered' | 'aborted'}.
export async function startModel({ port = 0, log = () => {} } = {}) {
  const requests = [];
  const server = http.createServer((req, res) => {
    handle(req, res, requests, log).catch((error) => {
      log(`model: ${req.method} ${req.url}: ${error.message}`);
      if (!res.headersSent) sendJson(res, 400, { error: { type: 'invalid_request_error', message: error.message } });
      else res.destroy();
    });
  });
  server.keepAliveTimeout = 60_000;
  await new Promise((resolve, reject) => server.once('error', reject).listen(port, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    requests,
    close: () => {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

async function handle(req, res, requests, log) {
  const path = new URL(req.url, 'http://model').pathname;
  if (req.method === 'GET' && path === '/__log') return sendJson(res, 200, requests);
  const body = req.method === 'POST' ? JSON.parse(await readBody(req)) : null;
  log(`model: ${req.method} ${path}`);
  if (body && path === `${anthropic.path}/count_tokens`) return sendJson(res, 200, { input_tokens: 10 });
  const dialect = body && [anthropic, responses, completions].find((d) => d.path === path);
  if (!dialect) return sendJson(res, 404, { error: { type: 'not_found_error', message: `no ${req.method} ${path}` } });

  const request = dialect.read(body);
  const entry = {
    path, model: request.model, prompt: request.prompt, prompts: request.prompts, step: request.step, tools: [...request.tools.keys()],
    status: 200, closed: null,
  };
  requests.push(entry);
  res.on('close', () => (entry.closed = res.writableFinished ? 'answered' : 'aborted'));
  const said = answer(request);
  if (said.status) {
    entry.status = said.status;
    return sendJson(res, said.status, dialect.error(said.status));
  }
  const reply = { id: requests.length, model: request.model, request, answer: said };
  if (!request.stream && !said.hang) return sendJson(res, 200, dialect.whole(reply));
  reply.pieces = pieces(said, res);
  res.writeHead(200, { 'content-type': 'text/event-stream', 'cache-control': 'no-cache' });
  for await (const { event, data } of dialect.events(reply)) {
    if (res.destroyed) return;
    if (event) res.write(`event: ${event}\n`);
    res.write(`data: ${data === '[DONE]' ? data : JSON.stringify(data)}\n\n`);
  }
  res.end();
}

// The pieces that the text of an answer comes in. Ends early when the agent goes away.
async function* pieces(said, res) {
  if (!said.slow) yield* halves(said.text ?? '');
  if (said.hang) await gone(res);
  if (!said.slow) return;
  for (const piece of said.text.split(/(?<= )/)) {
    if (res.destroyed) return;
    yield piece;
    await gone(res, SLOW_MS);
  }
}

// Waits until the agent goes away, or for so many milliseconds.
function gone(res, ms) {
  return new Promise((resolve) => {
    if (res.destroyed) return resolve();
    const timer = ms && setTimeout(done, ms);
    function done() {
      clearTimeout(timer);
      res.off('close', done);
      resolve();
    }
    res.once('close', done);
  });
}

async function readBody(req) {
  const chunks = [];
  let size = 0;
  for await (const chunk of req) {
    size += chunk.length;
    if (size > BODY_LIMIT) throw new Error(`request body over ${BODY_LIMIT} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}

function sendJson(res, status, value) {
  const text = JSON.stringify(value);
  res.writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) });
  res.end(text);
}

if (process.argv[1] && import.meta.url === pathToFileURL(process.argv[1]).href) {
  const at = process.argv.indexOf('--port');
  const model = await startModel({ port: at < 0 ? 0 : Number(process.argv[at + 1]), log: console.error });
  console.log(model.url);
}
