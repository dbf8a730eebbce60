// A foreign client: grpc-js with our protos loaded at run time, as any backend in Node would use them.
//
//   const c = connect('127.0.0.1:7401', { token });           // tls: { ca, cert, key } (PEM) for TLS
//   const { session } = await c.sessions.createSession({ agent: 'mock' });
//   c.sessions.stream.runPrompt({ ... })                      // a server stream, as grpc-js gives it
//   c.close()
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import grpc from '@grpc/grpc-js';
import protoLoader from '@grpc/proto-loader';

export const { status } = grpc;
export const root = join(dirname(fileURLToPath(import.meta.url)), '..', '..');

const SERVICES = {
  sessions: 'sandboxagent.session.v1.SessionService',
  permissions: 'sandboxagent.session.v1.PermissionService',
  agents: 'sandboxagent.session.v1.AgentService',
  config: 'sandboxagent.session.v1.ConfigService',
  credentials: 'sandboxagent.session.v1.CredentialService',
  presence: 'sandboxagent.presence.v1.PresenceService',
  processes: 'sandboxagent.process.v1.ProcessService',
  files: 'sandboxagent.fs.v1.FileService',
  sandboxes: 'sandboxagent.provider.v1.SandboxService',
  health: 'grpc.health.v1.Health',
};
const FILES = [
  'sandboxagent/session/v1/session_service.proto', 'sandboxagent/session/v1/permission_service.proto',
  'sandboxagent/session/v1/agent_service.proto', 'sandboxagent/session/v1/config_service.proto',
  'sandboxagent/session/v1/credential_service.proto', 'sandboxagent/presence/v1/presence_service.proto',
  'sandboxagent/process/v1/process_service.proto', 'sandboxagent/fs/v1/file_service.proto',
  'sandboxagent/provider/v1/sandbox_service.proto', 'grpc/health/v1/health.proto', 'google/rpc/status.proto',
  'google/rpc/error_details.proto',
];

let loaded;
const definitions = () =>
  (loaded ??= protoLoader.loadSync(FILES, {
    includeDirs: [join(root, 'proto'), '/usr/include'],
    longs: Number, enums: String, defaults: true, oneofs: true,
  }));

export function connect(target, { token, metadata = {}, tls, deadlineMs = 60_000, options = {} } = {}) {
  const credentials = channelCredentials({ tls });
  const clients = [];
  const callMetadata = () => {
    const m = new grpc.Metadata();
    if (token) m.set('authorization', `Bearer ${token}`);
    for (const [key, value] of Object.entries(metadata)) m.set(key, value);
    return m;
  };
  const connection = { close: () => clients.forEach((c) => c.close()) };
  for (const [name, service] of Object.entries(SERVICES)) {
    let made;
    const client = () => {
      if (!made) {
        const Client = grpc.makeClientConstructor(definitions()[service], service);
        made = new Client(target, credentials, { 'grpc.max_receive_message_length': 64 << 20, ...options });
        clients.push(made);
      }
      return made;
    };
    const methods = new Map(Object.entries(definitions()[service]).map(([k, d]) => [k[0].toLowerCase() + k.slice(1), d]));
    const api = { stream: {} };
    for (const [method, definition] of methods) {
      const name = definition.path.split('/')[2];
      if (definition.requestStream && !definition.responseStream) {
        api.stream[method] = (callback) => client()[name](callMetadata(), callback);
      } else if (definition.requestStream) {
        api.stream[method] = () => client()[name](callMetadata());
      } else if (definition.responseStream) {
        api.stream[method] = (request) => client()[name](request, callMetadata());
      } else {
        api[method] = (request = {}, { deadlineMs: ms = deadlineMs } = {}) =>
          new Promise((resolve, reject) =>
            client()[name](request, callMetadata(), { deadline: Date.now() + ms }, (error, answer) =>
              error ? reject(explain(error)) : resolve(answer),
            ),
          );
      }
    }
    connection[name] = api;
  }
  return connection;
}

// Adds `reason`, the stable word of our errors: google.rpc.ErrorInfo in the status details.
export function explain(error) {
  const [details] = error.metadata?.get('grpc-status-details-bin') ?? [];
  if (!details) return error;
  for (const { number, bytes } of fields(details)) {
    if (number !== 3) continue; // Status.details: Any
    const any = new Map([...fields(bytes)].map((f) => [f.number, f.bytes]));
    if (!any.get(1)?.toString().endsWith('/google.rpc.ErrorInfo')) continue;
    error.reason = [...fields(any.get(2))].find((f) => f.number === 1)?.bytes.toString();
  }
  return error;
}

// The length-delimited fields of a message's wire bytes, in order.
export function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0, scale = 1, byte;
    do {
      byte = bytes[at++];
      value += (byte & 0x7f) * scale;
      scale *= 128;
    } while (byte & 0x80);
    return value;
  };
  while (at < bytes.length) {
    const tag = varint();
    const type = tag & 7;
    if (type === 2) {
      const length = varint();
      yield { number: Math.floor(tag / 8), bytes: bytes.subarray(at, at + length) };
      at += length;
    } else if (type === 0) varint();
    else at += type === 1 ? 8 : 4;
  }
}

// ---- a viewer: follows a session's events and keeps them, decoded and as the bytes that came ----

const DEADLINE_MS = 60_000;

export class Viewer {
  constructor(target, credentials, sessionId, request = {}) {
    this.events = [];
    this.raw = [];
    this.messages = [];
    this.waiting = new Set();
    this.error = null;
    this.ended = false;
    const definition = definitions()['sandboxagent.session.v1.SessionService'].StreamEvents;
    const Client = grpc.makeGenericClientConstructor({}, 'viewer');
    this.client = new Client(target, channelCredentials(credentials), {
      'grpc.max_receive_message_length': 64 << 20,
    });
    const metadata = new grpc.Metadata();
    if (credentials.token) metadata.set('authorization', `Bearer ${credentials.token}`);
    this.call = this.client.makeServerStreamRequest(
      definition.path, definition.requestSerialize, (bytes) => ({ bytes, message: definition.responseDeserialize(bytes) }),
      { sessionId, ...request }, metadata,
    );
    this.call.on('data', ({ bytes, message }) => {
      this.messages.push(message);
      for (const { number, bytes: batch } of fields(bytes)) {
        if (number !== 2) continue;
        for (const field of fields(batch)) if (field.number === 2) this.raw.push(Buffer.from(field.bytes));
      }
      if (message.kind === 'batch') this.events.push(...message.batch.events);
      this.look();
    });
    this.call.on('error', (error) => {
      this.error = explain(error);
      this.look();
    });
    this.call.on('end', () => {
      this.ended = true;
      this.look();
    });
  }

  look() {
    for (const check of [...this.waiting]) check();
  }

  // The first event that fits, now or later.
  waitFor(fits, what, ms = DEADLINE_MS) {
    return this.until(() => this.events.find(fits), what, ms);
  }

  // Waits until look() answers something.
  until(look, what, ms = DEADLINE_MS) {
    return new Promise((resolve, reject) => {
      const finish = (settle, value) => {
        clearTimeout(timer);
        this.waiting.delete(check);
        settle(value);
      };
      const check = () => {
        const found = look();
        if (found) finish(resolve, found);
        else if (this.error) finish(reject, this.error);
        else if (this.ended) finish(reject, new Error(`the stream ended before ${what}`));
      };
      const timer = setTimeout(() => {
        const last = this.events.slice(-5).map((e) => `${e.seq}:${e.kind}`).join(' ');
        finish(reject, new Error(`${what} did not come within ${ms} ms; last events: ${last}`));
      }, ms);
      this.waiting.add(check);
      check();
    });
  }

  turnEnded(turn, ms) {
    return this.waitFor((e) => e.kind === 'turnEnded' && e.turn === turn, `the end of turn ${turn}`, ms);
  }

  // What the agent said in a turn.
  text(turn) {
    return this.events
      .filter((e) => e.kind === 'agentMessageChunk' && (turn === undefined || e.turn === turn))
      .map((e) => e.agentMessageChunk.content?.text ?? '')
      .join('');
  }

  close() {
    this.call.on('error', () => {});
    this.call.cancel();
    this.client.close();
  }
}

function channelCredentials({ tls }) {
  return tls
    ? grpc.credentials.createSsl(tls.ca, tls.key ?? null, tls.cert ?? null)
    : grpc.credentials.createInsecure();
}

export const text = (value) => [{ text: value }];
export const environment = (env) =>
  Object.entries(env).map(([name, value]) => ({ name: Buffer.from(name), value: Buffer.from(value) }));
