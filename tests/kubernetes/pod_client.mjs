// What a client in the pod's network does: `node pod_client.mjs` with {ca, token} as JSON on standard input; prints what it
// saw as JSON. Started in the pod's network namespace.
import { connect, text, Viewer } from '../clients/grpc.mjs';

const { ca, token, file, secrets } = JSON.parse(await new Promise((resolve) => {
  let input = '';
  process.stdin.on('data', (data) => (input += data)).on('end', () => resolve(input));
}));
const credentials = { token, tls: { ca: Buffer.from(ca) } };
const c = connect('localhost:7401', credentials);
const processes = connect('localhost:7402', credentials).processes;
const { session } = await c.sessions.createSession({ agent: 'mock' });
const { sessionId } = session;
const viewer = new Viewer('localhost:7401', credentials, sessionId);
const prompt = async (words) => (await c.sessions.sendPrompt({ sessionId, content: text(words) })).turn;

const first = await prompt(`hello\nPWD\nPERMISSION ${file}`);
const { permissionRequested } = await viewer.waitFor((e) => e.kind === 'permissionRequested', 'a permission request');
const { optionId } = permissionRequested.options.find((o) => o.kind === 'PERMISSION_OPTION_KIND_ALLOW_ONCE');
await c.permissions.answerPermission({ sessionId, permissionId: permissionRequested.permissionId, optionId });
const { turnEnded } = await viewer.turnEnded(first);

const shell = async (script) => {
  const { exit, stdout, stderr } = await processes.runProcess({
    spec: { argv: ['/bin/sh', '-c', script].map((w) => Buffer.from(w)), env: [Buffer.from('PATH=/usr/bin:/bin')] },
  });
  return { code: exit.exitCode, stdout: stdout.toString(), stderr: stderr.toString() };
};
const user = (await shell('id -un')).stdout.trim();
const readable = [];
for (const path of secrets) if ((await shell(`test -d ${path} && ls ${path} || cat ${path}`)).code === 0) readable.push(path);
const seen = (await shell('cat /proc/[0-9]*/cmdline 2> /dev/null | tr "\\0" " "')).stdout;
const [info] = await new Promise((resolve, reject) => {
  const messages = [];
  const call = connect('localhost:7403', credentials).files.stream.readFile({ path: Buffer.from(file) });
  call.on('data', (m) => messages.push(m)).on('end', () => resolve(messages)).on('error', reject);
});
const stranger = await connect('localhost:7401', { ...credentials, token: 'wrong' }).sessions.listSessions().catch((e) => e.code);
const health = await fetch('http://localhost:2468/v1/health').then((r) => r.status);
const member = await c.presence.joinSession({ sessionId, displayName: 'Ada' }).then((r) => r.member.displayName, (e) => e.message);

// process-svc is killed in the middle of this turn by whoever started us, at this line.
const turn = await prompt('TICK 300 10');
await viewer.waitFor((e) => e.agentMessageChunk?.content.text === 'tick 20\n', 'tick 20');
console.log(JSON.stringify({ running: true }));
await viewer.turnEnded(turn);
const ticks = viewer.text(turn).trim().split('\n').length;
console.log(JSON.stringify({
  stopReason: turnEnded.stopReason, said: viewer.text(first), size: info.file.size, user, readable, seen, stranger, health, member, ticks,
  contiguous: viewer.events.every((e, i) => e.seq === i + 1),
}));
process.exit(0);
