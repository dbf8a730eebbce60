// The three wire formats of model providers. Each dialect reads a request body into the common form
//   {model, stream, prompt, prompts, step, tools: Map(name -> JSON schema)}
// and writes an answer {text, thinking?, tool?} as one JSON body or as server-sent events. The text of a stream comes
// from the iterable `pieces`, which may take its time.

const textOf = (content) =>
  typeof content === 'string'
    ? content
    : (content ?? []).map((part) => (typeof part.text === 'string' ? part.text : '')).join('\n');

// Agents add notes of their own to what the user said.
const strip = (text) =>
  text
    .replace(/<(system-reminder|environment_context|user_instructions|permissions instructions)>[^]*?<\/\1>/g, '')
    .replace(/^\[Request interrupted by user[^\n]*$/gm, '')
    .trim();

// turns: [{by: 'user' | 'assistant' | 'tool', text}], oldest first.
function readTurns(turns) {
  let last = -1;
  let prompts = 0;
  turns.forEach((turn, i) => {
    if (turn.by !== 'user' || strip(turn.text) === '') return;
    last = i;
    prompts++;
  });
  let step = 0;
  for (let i = last + 1; i < turns.length; i++) {
    if (turns[i].by === 'assistant' && turns[i - 1]?.by !== 'assistant') step++;
  }
  return { prompt: last < 0 ? '' : strip(turns[last].text), prompts, step };
}

export function halves(text) {
  const middle = Math.ceil(text.length / 2);
  return [text.slice(0, middle), text.slice(middle)].filter((piece) => piece !== '');
}

const USAGE = { input: 10, output: 5 };

// ---- Anthropic Messages ----

export const anthropic = {
  path: '/v1/messages',

  read(body) {
    const turns = body.messages.map((message) => ({ by: message.role, text: textOf(message.content) }));
    const tools = new Map((body.tools ?? []).map((tool) => [tool.name, tool.input_schema]));
    return { model: body.model, stream: !!body.stream, tools, ...readTurns(turns) };
  },

  async *events({ id, model, answer, pieces }) {
    const event = (data) => ({ event: data.type, data });
    let index = 0;
    yield event({
      type: 'message_start',
      message: {
        id: `msg_${id}`, type: 'message', role: 'assistant', model, content: [],
        stop_reason: null, stop_sequence: null, usage: { input_tokens: USAGE.input, output_tokens: 1 },
      },
    });
    const block = async function* (start, deltas) {
      yield event({ type: 'content_block_start', index, content_block: start });
      for await (const delta of deltas) yield event({ type: 'content_block_delta', index, delta });
      yield event({ type: 'content_block_stop', index });
      index++;
    };
    if (answer.thinking) {
      yield* block({ type: 'thinking', thinking: '', signature: '' }, [
        ...halves(answer.thinking).map((thinking) => ({ type: 'thinking_delta', thinking })),
        { type: 'signature_delta', signature: 'c2lnbmF0dXJl' },
      ]);
    }
    if (answer.text) {
      yield* block({ type: 'text', text: '' }, map(pieces, (text) => ({ type: 'text_delta', text })));
    }
    if (answer.tool) {
      yield* block(
        { type: 'tool_use', id: `toolu_${id}`, name: answer.tool.name, input: {} },
        halves(JSON.stringify(answer.tool.input)).map((json) => ({ type: 'input_json_delta', partial_json: json })),
      );
    }
    yield event({
      type: 'message_delta',
      delta: { stop_reason: answer.tool ? 'tool_use' : 'end_turn', stop_sequence: null },
      usage: { output_tokens: USAGE.output },
    });
    yield event({ type: 'message_stop' });
  },

  whole({ id, model, answer }) {
    const content = [];
    if (answer.thinking) content.push({ type: 'thinking', thinking: answer.thinking, signature: 'c2lnbmF0dXJl' });
    if (answer.text) content.push({ type: 'text', text: answer.text });
    if (answer.tool) content.push({ type: 'tool_use', id: `toolu_${id}`, ...answer.tool });
    return {
      id: `msg_${id}`, type: 'message', role: 'assistant', model, content,
      stop_reason: answer.tool ? 'tool_use' : 'end_turn', stop_sequence: null,
      usage: { input_tokens: USAGE.input, output_tokens: USAGE.output },
    };
  },

  error: (status) => ({ type: 'error', error: { type: 'invalid_request_error', message: `scripted failure ${status}` } }),
};

// ---- OpenAI Responses ----

// Tools may come in namespaces.
const flat = (tools = []) => tools.flatMap((tool) => (tool.type === 'namespace' ? flat(tool.tools) : [tool]));

export const responses = {
  path: '/v1/responses',

  read(body) {
    const input = typeof body.input === 'string' ? [{ role: 'user', content: body.input }] : body.input;
    const offered = flat(body.tools);
    const turns = [];
    for (const item of input) {
      if (item.type === 'additional_tools') offered.push(...flat(item.tools));
      else if (item.type === 'message' || !item.type) {
        turns.push({ by: item.role === 'developer' ? 'system' : item.role, text: textOf(item.content) });
      } else if (/_output$/.test(item.type)) turns.push({ by: 'tool', text: '' });
      else turns.push({ by: 'assistant', text: '' });
    }
    const tools = new Map(offered.filter((t) => t.name).map((tool) => [tool.name, tool.parameters]));
    const custom = new Set(offered.filter((tool) => tool.type === 'custom').map((tool) => tool.name));
    return { model: body.model, stream: !!body.stream, tools, custom, ...readTurns(turns) };
  },

  async *events(reply) {
    const { id, answer, pieces } = reply;
    let number = 0;
    const event = (type, data) => ({ event: type, data: { type, sequence_number: number++, ...data } });
    yield event('response.created', { response: this.response(reply, 'in_progress', []) });
    const output = [];
    for (const item of this.items(reply)) {
      const output_index = output.length;
      const at = { output_index, item_id: item.id };
      if (item.type === 'message') {
        yield event('response.output_item.added', { output_index, item: { ...item, content: [] } });
        yield event('response.content_part.added', {
          ...at, content_index: 0, part: { type: 'output_text', text: '', annotations: [] },
        });
        for await (const delta of pieces) {
          yield event('response.output_text.delta', { ...at, content_index: 0, delta });
        }
      } else if (item.type === 'reasoning') {
        yield event('response.output_item.added', { output_index, item: { ...item, summary: [] } });
        yield event('response.reasoning_summary_part.added', {
          ...at, summary_index: 0, part: { type: 'summary_text', text: '' },
        });
        for (const delta of halves(answer.thinking)) {
          yield event('response.reasoning_summary_text.delta', { ...at, summary_index: 0, delta });
        }
      } else {
        yield event('response.output_item.added', { output_index, item });
      }
      yield event('response.output_item.done', { output_index, item });
      output.push(item);
    }
    yield event('response.completed', { response: this.response(reply, 'completed', output), id });
  },

  whole(reply) {
    return this.response(reply, 'completed', this.items(reply));
  },

  items({ id, answer, request }) {
    const items = [];
    if (answer.thinking) {
      items.push({
        id: `rs_${id}`, type: 'reasoning', summary: [{ type: 'summary_text', text: answer.thinking }],
        encrypted_content: null,
      });
    }
    if (answer.text) {
      items.push({
        id: `msg_${id}`, type: 'message', role: 'assistant', status: 'completed',
        content: [{ type: 'output_text', text: answer.text, annotations: [] }],
      });
    }
    if (answer.tool) {
      const { name, input } = answer.tool;
      const call = { id: `fc_${id}`, call_id: `call_${id}`, name, status: 'completed' };
      items.push(
        request.custom?.has(name)
          ? { ...call, type: 'custom_tool_call', input }
          : { ...call, type: 'function_call', arguments: JSON.stringify(input) },
      );
    }
    return items;
  },

  response: ({ id, model }, status, output) => ({
    id: `resp_${id}`, object: 'response', created_at: 0, model, status, output,
    usage: {
      input_tokens: USAGE.input, input_tokens_details: { cached_tokens: 0 },
      output_tokens: USAGE.output, output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: USAGE.input + USAGE.output,
    },
  }),

  error: (status) => ({ error: { message: `scripted failure ${status}`, type: 'invalid_request_error' } }),
};

// ---- OpenAI Chat Completions ----

export const completions = {
  path: '/v1/chat/completions',

  read(body) {
    const turns = body.messages.map((message) => ({ by: message.role, text: textOf(message.content) }));
    const tools = new Map((body.tools ?? []).map((tool) => [tool.function.name, tool.function.parameters]));
    return { model: body.model, stream: !!body.stream, tools, ...readTurns(turns) };
  },

  async *events({ id, model, answer, pieces }) {
    const event = (delta, finish_reason = null) => ({
      data: {
        id: `chatcmpl-${id}`, object: 'chat.completion.chunk', created: 0, model,
        choices: [{ index: 0, delta, finish_reason }],
      },
    });
    yield event({ role: 'assistant', content: '' });
    for (const text of halves(answer.thinking ?? '')) yield event({ reasoning_content: text });
    for await (const text of pieces) yield event({ content: text });
    if (answer.tool) {
      const name = answer.tool.name;
      yield event({ tool_calls: [{ index: 0, id: `call_${id}`, type: 'function', function: { name, arguments: '' } }] });
      for (const json of halves(JSON.stringify(answer.tool.input))) {
        yield event({ tool_calls: [{ index: 0, function: { arguments: json } }] });
      }
    }
    yield event({}, answer.tool ? 'tool_calls' : 'stop');
    yield {
      data: { id: `chatcmpl-${id}`, object: 'chat.completion.chunk', created: 0, model, choices: [], usage: usage() },
    };
    yield { data: '[DONE]' };
  },

  whole({ id, model, answer }) {
    const message = { role: 'assistant', content: answer.text || null };
    if (answer.thinking) message.reasoning_content = answer.thinking;
    if (answer.tool) {
      const { name, input } = answer.tool;
      message.tool_calls = [{ id: `call_${id}`, type: 'function', function: { name, arguments: JSON.stringify(input) } }];
    }
    return {
      id: `chatcmpl-${id}`, object: 'chat.completion', created: 0, model,
      choices: [{ index: 0, message, finish_reason: answer.tool ? 'tool_calls' : 'stop' }],
      usage: usage(),
    };
  },

  error: (status) => ({ error: { message: `scripted failure ${status}`, type: 'invalid_request_error' } }),
};

const usage = () => ({
  prompt_tokens: USAGE.input, completion_tokens: USAGE.output, total_tokens: USAGE.input + USAGE.output,
});

async function* map(items, change) {
  for await (const item of items) yield change(item);
}
