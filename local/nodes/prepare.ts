import { chmodSync, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { issueNodeCertificates } from '../certificates.js';
import { writeClientKubeconfig } from '../kubeconfigs.js';
import { layout } from '../paths.js';
import { writeContainerdConfig } from './containerd.js';
import { KERNEL_SETTINGS, kubeletUser, writeKubeletConfig } from './kubelet.js';
import { NODE_DIRECTORIES, settingFile, VOLATILE_DIRECTORIES } from './namespace.js';
import { findPlugins } from './requirements.js';
import type { LocalNode } from './types.js';

/** Writes everything that the processes of the nodes read: directories, certificates, kubeconfigs, configuration. */
export async function prepareNodes(
  directory: string,
  nodes: readonly LocalNode[],
  server: string,
): Promise<void> {
  await issueNodeCertificates(
    layout(directory).pki,
    nodes.map((node) => ({ file: kubeletUser(node), node: node.name, address: node.address })),
  );
  for (const node of nodes) {
    createNodeDirectories(directory, node);
    writeContainerdConfig(node, findPlugins() ?? '');
    writeClientKubeconfig(directory, kubeletUser(node), server);
    writeKubeletConfig(directory, node);
  }
}

/** Transfers and pods of other users pass through to the pool; the rest is root's. */
function createNodeDirectories(directory: string, node: LocalNode): void {
  const { nodes } = layout(directory);
  for (const name of VOLATILE_DIRECTORIES)
    rmSync(join(node.directory, name), { recursive: true, force: true });
  mkdirSync(node.directory, { recursive: true });
  for (const path of [nodes, node.directory]) chmodSync(path, 0o711);
  for (const name of NODE_DIRECTORIES)
    mkdirSync(join(node.directory, name), { recursive: true, mode: 0o711 });
  chmodSync(node.pool, 0o755);
  for (const [setting, value] of Object.entries(KERNEL_SETTINGS)) {
    writeFileSync(join(node.directory, 'kernel', settingFile(setting)), `${value}\n`);
  }
}
