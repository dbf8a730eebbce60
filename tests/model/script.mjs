// What the scripted model says. A pure function of the request: the last user prompt decides the script, the number
// of assistant turns since that prompt decides the step. So any number of agents can share one endpoint, and a
// retried or resumed conversation gets the same answers again.
//
// Keywords, at the start of a line of the prompt; the one that starts last wins:
//   WRITE path     writes a file (FILE_TEXT), then says "Done: ..."
//   EDIT path      reads the file, then changes EDIT_OLD in it to EDIT_NEW
//   READ path      reads a file
//   SHELL command  runs a command
//   ESCALATE cmd   runs a command outside the agent's own sandbox (codex; elsewhere like SHELL)
//   MCP tool       calls a tool of an MCP server by its full name
//   THINK          thinks aloud, then answers
//   SLOW [n]       answers in n pieces (default 1000), 20 ms apart
//   HANG           begins an answer and never goes on
//   FAIL status    answers with that HTTP status
//   SAY text       answers with that text
// Anything else is answered with HELLO.

export const FILE_TEXT = 'hello from the scripted model\n';
export const EDIT_OLD = 'hello';
export const EDIT_NEW = 'goodbye';
export const HELLO = 'Hello from the scripted model.';
export const SIDE = 'A title';

const say = (text) => ({ text });
const use = (action, args, text) => ({ text, tool: { action, args } });

const scripts = {
  WRITE: (path) => [
    use('write', { path, text: FILE_TEXT }, 'I will write the file.'),
    say(`Done: wrote ${path}.`),
  ],
  EDIT: (path) => [
    use('read', { path }, 'I will read the file.'),
    use('edit', { path, before: EDIT_OLD, after: EDIT_NEW }, 'I will change the file.'),
    say(`Done: changed ${path}.`),
  ],
  READ: (path) => [use('read', { path }), say(`Done: read ${path}.`)],
  SHELL: (command) => [use('shell', { command }), say('Done: ran the command.')],
  ESCALATE: (command) => [use('escalate', { command }), say('Done: ran the command.')],
  MCP: (name) => [use('mcp', { name }), say(`Done: called ${name}.`)],
  THINK: () => [{ thinking: 'Let me think about that.', text: 'I have thought about it.' }],
  SLOW: (count) => [{ text: slowText(Number(count) || 1000), slow: true }],
  HANG: () => [{ text: 'I begin', hang: true }],
  FAIL: (status) => [{ status: Number(status) || 500 }],
  SAY: (text) => [say(text)],
};

function slowText(count) {
  return Array.from({ length: count }, (_, i) => `piece ${i}.`).join(' ');
}

const KEYWORD = new RegExp(`^(${Object.keys(scripts).join('|')})\\b[ \\t]*(.*)$`, 'gm');

// The answer to a request {prompt, step, tools: Map(name -> JSON schema)}:
// {text, thinking?, tool?: {name, input}, slow?, hang?, status?}.
export function answer(request) {
  if (request.tools.size === 0) return say(SIDE);
  const matches = [...request.prompt.matchAll(KEYWORD)];
  const last = matches.at(-1);
  if (!last) return say(HELLO);
  const steps = scripts[last[1]](last[2].trim());
  const step = steps[Math.min(request.step, steps.length - 1)];
  if (!step.tool) return step;
  const tool = chooseTool(step.tool, request.tools);
  return tool ? { ...step, tool } : say(`I have no tool to ${step.tool.action}.`);
}

// How agents call their tools: action -> [tool name, a parameter that tells it from others' tools of that name,
// input]. An input that is a string belongs to a free-form ("custom") tool.
const tools = {
  write: [
    ['Write', 'file_path', (a) => ({ file_path: a.path, content: a.text })], // Claude Code
    ['write', 'filePath', (a) => ({ filePath: a.path, content: a.text })], // OpenCode
    ['write', 'path', (a) => ({ path: a.path, content: a.text })], // Pi
    ['exec', null, (a) => `text(await tools.apply_patch(${JSON.stringify(addPatch(a))}));`], // Codex, code mode
    ['apply_patch', null, addPatch], // Codex
  ],
  edit: [
    ['Edit', 'file_path', (a) => ({ file_path: a.path, old_string: a.before, new_string: a.after })],
    ['edit', 'filePath', (a) => ({ filePath: a.path, oldString: a.before, newString: a.after })],
    ['edit', 'edits', (a) => ({ path: a.path, edits: [{ oldText: a.before, newText: a.after }] })],
    ['edit', 'path', (a) => ({ path: a.path, oldText: a.before, newText: a.after })],
    ['exec', null, (a) => `text(await tools.apply_patch(${JSON.stringify(editPatch(a))}));`],
    ['apply_patch', null, editPatch],
  ],
  read: [
    ['Read', 'file_path', (a) => ({ file_path: a.path })],
    ['read', 'filePath', (a) => ({ filePath: a.path })],
    ['read', 'path', (a) => ({ path: a.path })],
    ...shell((a) => `cat ${a.path}`),
  ],
  shell: shell((a) => a.command),
  escalate: shell((a) => a.command, {
    sandbox_permissions: 'require_escalated',
    justification: 'The test asks for it.',
  }),
};

function shell(command, extra = {}) {
  return [
    ['Bash', 'command', (a) => ({ command: command(a), description: 'Run a command' })],
    ['bash', 'description', (a) => ({ command: command(a), description: 'Run a command' })],
    ['bash', 'command', (a) => ({ command: command(a) })],
    ['exec', null, (a) => `text(await tools.exec_command(${JSON.stringify({ cmd: command(a), ...extra })}));`],
    ['exec_command', 'cmd', (a) => ({ cmd: command(a), ...extra })],
  ];
}

function addPatch({ path, text }) {
  const lines = text.replace(/\n$/, '').split('\n').map((line) => `+${line}`);
  return ['*** Begin Patch', `*** Add File: ${path}`, ...lines, '*** End Patch'].join('\n');
}

// Replaces a line that is the whole FILE_TEXT: a patch of Codex names whole lines.
function editPatch({ path, before, after }) {
  const line = FILE_TEXT.trimEnd();
  const changed = line.replace(before, after);
  return ['*** Begin Patch', `*** Update File: ${path}`, '@@', `-${line}`, `+${changed}`, '*** End Patch'].join('\n');
}

function chooseTool({ action, args }, offered) {
  if (action === 'mcp') return offered.size ? { name: args.name, input: { text: 'ping' } } : null;
  for (const [name, parameter, input] of tools[action]) {
    if (!offered.has(name)) continue;
    if (parameter && !(parameter in (offered.get(name)?.properties ?? {}))) continue;
    return { name, input: input(args) };
  }
  return null;
}
