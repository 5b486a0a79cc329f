import { runAgent } from './agent.js';
import { readState } from './state.js';

const directory = process.argv[2] ?? '';
const state = readState(directory);
if (state === undefined)
  throw new Error(`usage: agent-main.js DIRECTORY; '${directory}' holds no local stack`);
const abort = new AbortController();
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => abort.abort());
const { node, nodes, kubeconfig, workers } = state;
const stands = nodes.length === 0 ? { node } : {};
await runAgent({ directory, ...stands, kubeconfig, workers }, abort.signal, (line) => console.error(line));
