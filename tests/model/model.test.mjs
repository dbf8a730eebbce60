import assert from 'node:assert/strict';
import http from 'node:http';
import { after, before, test } from 'node:test';
import { startModel } from './model.mjs';
import { EDIT_NEW, EDIT_OLD, FILE_TEXT, HELLO, SIDE } from './script.mjs';

let model;
before(async () => (model = await startModel()));
after(() => model.close());

function post(path, body) {
  return fetch(model.url + path, { method: 'POST', body: JSON.stringify(body) });
}

async function events(response) {
  const text = await response.text();
  return text
    .split('\n')
    .filter((line) => line.startsWith('data: ') && line !== 'data: [DONE]')
    .map((line) => JSON.parse(line.slice(6)));
}

const claudeTools = [
  { name: 'Write', input_schema: { type: 'object', properties: { file_path: {}, content: {} } } },
  { name: 'Edit', input_schema: { type: 'object', properties: { file_path: {}, old_string: {} } } },
  { name: 'Read', input_schema: { type: 'object', properties: { file_path: {} } } },
  { name: 'Bash', input_schema: { type: 'object', properties: { command: {} } } },
];
const user = (text) => ({ role: 'user', content: [{ type: 'text', text }] });
const used = (id) => ({ role: 'assistant', content: [{ type: 'tool_use', id, name: 'x', input: {} }] });
const result = (id, text = 'ok') => ({ role: 'user', content: [{ type: 'tool_result', tool_use_id: id }, { type: 'text', text: `<system-reminder>${text}</system-reminder>` }] });

async function claude(messages, extra = {}) {
  const response = await post('/v1/messages?beta=true', { model: 'm', messages, tools: claudeTools, ...extra });
  return (await response.json()).content;
}

test('a prompt without a keyword gets a greeting, a request without tools a title', async () => {
  assert.deepEqual(await claude([user('hi')]), [{ type: 'text', text: HELLO }]);
  assert.deepEqual(await claude([user('WRITE x')], { tools: [] }), [{ type: 'text', text: SIDE }]);
});

test('a keyword script advances with the assistant turns since the last prompt', async () => {
  const first = await claude([user('WRITE /w/a.txt')]);
  assert.deepEqual(first[1].input, { file_path: '/w/a.txt', content: FILE_TEXT });
  const second = await claude([user('WRITE /w/a.txt'), used('1'), result('1')]);
  assert.deepEqual(second, [{ type: 'text', text: 'Done: wrote /w/a.txt.' }]);
  const edit = [user('WRITE /w/a.txt'), used('1'), result('1'), used('2'), user('EDIT /w/a.txt')];
  assert.equal((await claude(edit))[1].name, 'Read');
  const change = (await claude([...edit, used('3'), result('3')]))[1];
  assert.deepEqual(change.input, { file_path: '/w/a.txt', old_string: EDIT_OLD, new_string: EDIT_NEW });
});

test('the last keyword wins, and notes of the agent are not the user', async () => {
  const glued = [user('WRITE /w/a\n[Request interrupted by user]\nSAY second')];
  assert.deepEqual(await claude(glued), [{ type: 'text', text: 'second' }]);
  const noted = [{ role: 'user', content: '<system-reminder>\nSAY no\n</system-reminder>\nSAY yes' }];
  assert.deepEqual(await claude(noted), [{ type: 'text', text: 'yes' }]);
});

test('Anthropic Messages streams thinking, text and a tool call', async () => {
  const think = await events(await post('/v1/messages', { model: 'm', stream: true, messages: [user('THINK')], tools: claudeTools }));
  const thinking = think.map((e) => e.delta?.thinking ?? '').join('');
  assert.equal(thinking, 'Let me think about that.');
  assert.equal(think.at(0).type, 'message_start');
  assert.equal(think.at(-1).type, 'message_stop');
  const shell = await events(await post('/v1/messages', { model: 'm', stream: true, messages: [user('SHELL ls -l')], tools: claudeTools }));
  const input = shell.map((e) => e.delta?.partial_json ?? '').join('');
  assert.equal(JSON.parse(input).command, 'ls -l');
  assert.equal(shell.find((e) => e.type === 'message_delta').delta.stop_reason, 'tool_use');
});

test('Anthropic Messages counts tokens', async () => {
  const response = await post('/v1/messages/count_tokens', { model: 'm', messages: [user('hi')] });
  assert.deepEqual(await response.json(), { input_tokens: 10 });
});

test('OpenAI Responses calls custom and function tools', async () => {
  const input = [
    { type: 'additional_tools', tools: [{ type: 'custom', name: 'exec' }] },
    { type: 'message', role: 'developer', content: [{ type: 'input_text', text: 'SAY no' }] },
    { type: 'message', role: 'user', content: [{ type: 'input_text', text: '<environment_context>x</environment_context>' }] },
    { type: 'message', role: 'user', content: [{ type: 'input_text', text: 'WRITE /w/a.txt' }] },
  ];
  const exec = await events(await post('/v1/responses', { model: 'm', stream: true, input }));
  const call = exec.findLast((e) => e.type === 'response.output_item.done').item;
  assert.equal(call.type, 'custom_tool_call');
  assert.match(call.input, /tools\.apply_patch\("\*\*\* Begin Patch\\n\*\*\* Add File: \/w\/a\.txt/);
  assert.equal(exec.at(-1).type, 'response.completed');

  input.push(call, { type: 'custom_tool_call_output', call_id: call.call_id, output: 'ok' });
  const done = await (await post('/v1/responses', { model: 'm', input })).json();
  assert.equal(done.output[0].content[0].text, 'Done: wrote /w/a.txt.');

  const tools = [{ type: 'function', name: 'exec_command', parameters: { properties: { cmd: {} } } }];
  const plain = await (await post('/v1/responses', { model: 'm', tools, input: 'ESCALATE touch /x' })).json();
  assert.deepEqual(JSON.parse(plain.output[1]?.arguments ?? plain.output[0].arguments).sandbox_permissions, 'require_escalated');
});

test('OpenAI Chat Completions tells tools of the same name apart by their parameters', async () => {
  const tool = (properties) => [{ type: 'function', function: { name: 'write', parameters: { properties } } }];
  const messages = [{ role: 'system', content: 'SAY no' }, { role: 'user', content: 'WRITE /w/a.txt' }];
  for (const name of ['path', 'filePath']) {
    const streamed = await events(await post('/v1/chat/completions', { model: 'm', stream: true, messages, tools: tool({ [name]: {} }) }));
    const json = streamed.map((e) => e.choices[0]?.delta.tool_calls?.[0].function.arguments ?? '').join('');
    assert.deepEqual(JSON.parse(json), { [name]: '/w/a.txt', content: FILE_TEXT });
    assert.equal(streamed.at(-1).usage.total_tokens, 15);
  }
});

test('FAIL answers with the status it names', async () => {
  const response = await post('/v1/messages', { model: 'm', messages: [user('FAIL 429')], tools: claudeTools });
  assert.equal(response.status, 429);
  assert.match((await response.json()).error.message, /429/);
});

test('HANG begins an answer, and the log tells when the agent goes away', async () => {
  const request = http.request(`${model.url}/v1/messages`, { method: 'POST' });
  request.on('error', () => {});
  request.end(JSON.stringify({ model: 'm', stream: true, messages: [user('HANG')], tools: claudeTools }));
  const response = await new Promise((resolve) => request.on('response', resolve));
  response.on('error', () => {});
  let text = '';
  for await (const chunk of response) {
    text += chunk;
    if (text.includes('I be')) break;
  }
  request.destroy();
  const entry = model.requests.at(-1);
  assert.equal(entry.prompt, 'HANG');
  while (entry.closed === null) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(entry.closed, 'aborted');
});

test('SLOW streams its pieces over time', async () => {
  const slow = await events(await post('/v1/chat/completions', {
    model: 'm', stream: true, messages: [{ role: 'user', content: 'SLOW 5' }],
    tools: [{ type: 'function', function: { name: 'bash', parameters: {} } }],
  }));
  const pieces = slow.map((e) => e.choices[0]?.delta.content).filter(Boolean);
  assert.deepEqual(pieces.join(''), 'piece 0. piece 1. piece 2. piece 3. piece 4.');
  assert.ok(pieces.length >= 5);
});

test('what is not an API call is refused and does not stop the endpoint', async () => {
  assert.equal((await post('/v1/nothing', {})).status, 404);
  assert.equal((await fetch(`${model.url}/v1/messages`, { method: 'POST', body: '{' })).status, 400);
  assert.ok(Array.isArray(await (await fetch(`${model.url}/__log`)).json()));
});
