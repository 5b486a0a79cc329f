import { connect } from 'node:net';
import { layout } from '../paths.js';
import { createBridge } from './bridge.js';
import { createCgroup } from './cgroups.js';
import { CONTAINERD_SOCKET } from './containerd.js';
import { writeImages } from './images.js';
import { runTool } from './run-tool.js';
import type { LocalNode } from './types.js';

/** Makes what the processes of a node need of the kernel. */
export async function createNode(node: LocalNode): Promise<void> {
  createCgroup(node.cgroup);
  await createBridge(node);
}

/** Writes the images that every node of a stack has. */
export async function prepareImages(directory: string): Promise<string> {
  return await writeImages(layout(directory).nodes);
}

/** Brings images into the containerd with this pid. */
export async function importImages(pid: number, archive: string): Promise<void> {
  await runTool('ctr', '--address', socketOf(pid), '--namespace', 'k8s.io', 'images', 'import', archive);
}

/** Whether the containerd with this pid takes connections. */
export async function containerdAnswers(pid: number): Promise<boolean> {
  return await new Promise((settle) => {
    const socket = connect(socketOf(pid));
    socket.once('connect', () => {
      socket.destroy();
      settle(true);
    });
    socket.once('error', () => settle(false));
  });
}

/** The socket as it is seen from outside of the node. */
function socketOf(pid: number): string {
  return `/proc/${pid}/root${CONTAINERD_SOCKET}`;
}
