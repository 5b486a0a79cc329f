import { existsSync } from 'node:fs';
import { runTool } from './run-tool.js';
import type { LocalNode } from './types.js';

type Network = Pick<LocalNode, 'bridge' | 'address' | 'prefix'>;

/** Makes the bridge of a node, anew when there is one: its network may have changed. */
export async function createBridge({ bridge, address, prefix }: Network): Promise<void> {
  await removeBridge(bridge);
  await runTool('ip', 'link', 'add', 'name', bridge, 'type', 'bridge');
  await runTool('ip', 'address', 'add', `${address}/${prefix}`, 'dev', bridge);
  await runTool('ip', 'link', 'set', 'dev', bridge, 'up');
}

/** Removes the bridge of a node if it is there. */
export async function removeBridge(bridge: string): Promise<void> {
  if (existsSync(`/sys/class/net/${bridge}`)) await runTool('ip', 'link', 'delete', 'dev', bridge);
}
