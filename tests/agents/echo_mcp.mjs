// The smallest MCP server on standard streams: one tool, `echo`. Each call is a line in $ECHO_MCP_LOG, with $ECHO_MCP_TOKEN.
import { appendFileSync } from 'node:fs';
import { createInterface } from 'node:readline';

const tool = { name: 'echo', description: 'Says it again', inputSchema: { type: 'object', properties: { text: { type: 'string' } } } };

function answer({ method, params }) {
  if (method === 'initialize') {
    return { protocolVersion: params.protocolVersion, capabilities: { tools: {} }, serverInfo: { name: 'echo', version: '1' } };
  }
  if (method === 'tools/list') return { tools: [tool] };
  if (method === 'tools/call') {
    appendFileSync(process.env.ECHO_MCP_LOG, `${process.env.ECHO_MCP_TOKEN} ${params.arguments.text}\n`);
    return { content: [{ type: 'text', text: `echo: ${params.arguments.text}` }] };
  }
  return {};
}

createInterface({ input: process.stdin }).on('line', (line) => {
  const message = JSON.parse(line);
  if (message.id !== undefined) console.log(JSON.stringify({ jsonrpc: '2.0', id: message.id, result: answer(message) }));
});
