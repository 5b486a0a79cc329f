/** Kubernetes and Temporal without dvflow's workers: a watch would start lifecycles for the DataVolumes of these tests. */
import { mkdtempSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { KubeConfig } from '@kubernetes/client-node';
import { Client, Connection } from '@temporalio/client';
import { createKubernetes, loadKubeConfig } from '../../../activities/kubernetes/client.js';
import type { Kubernetes } from '../../../activities/kubernetes/client.js';
import { stackDown, stackUp } from '../../../local/index.js';
import type { StackInfo } from '../../../local/index.js';
import { runKubectl } from '../../../local/kubectl.js';

const START_MS = 180_000;

/** A running control plane. */
export interface ControlPlane {
  readonly info: StackInfo;
  /** As cluster administrator. */
  readonly admin: Kubernetes;
  /** Kubeconfig of the control role's own ServiceAccount. */
  readonly control: KubeConfig;
  /** Kubeconfig of a ServiceAccount, with its token in a file that the kubeconfig names by a relative path. */
  readonly configFor: (namespace: string, account: string) => Promise<KubeConfig>;
  readonly kubectl: (...args: string[]) => Promise<string>;
  readonly temporal: Client;
  /** Ends it and removes its state. */
  readonly stop: () => Promise<void>;
}

let shared: Promise<ControlPlane> | undefined;

/** The control plane of all suites of this folder, started for the first of them. Called in the body of `describe`. */
export function useControlPlane(): () => ControlPlane {
  let plane: ControlPlane | undefined;
  before('start the control plane', async function () {
    this.timeout(START_MS);
    shared ??= start();
    plane = await shared;
  });
  return () => {
    if (!plane) throw new Error('the control plane is used outside of hooks and tests');
    return plane;
  };
}

// a hook of the root suite, so that it ends after the last suite, whichever of them run
after('end the control plane', async function () {
  this.timeout(START_MS);
  await (await shared?.catch(() => undefined))?.stop();
});

async function start(): Promise<ControlPlane> {
  const directory = mkdtempSync(join(tmpdir(), 'dvflow-test-'));
  const info = await stackUp({ directory, ports: 'free', workers: false }, () => undefined);
  const kubectl = async (...args: string[]) => await runKubectl(info.kubectl, args);
  const configFor = async (namespace: string, account: string): Promise<KubeConfig> => {
    await writeFile(
      join(directory, `${account}.token`),
      await kubectl('create', 'token', account, '-n', namespace),
    );
    const config = JSON.parse(await kubectl('config', 'view', '--raw', '-o', 'json')) as {
      users: { user: object }[];
    };
    for (const user of config.users) user.user = { tokenFile: `${account}.token` };
    const file = join(directory, `${account}.kubeconfig`);
    await writeFile(file, JSON.stringify(config));
    return loadKubeConfig(file);
  };
  const connection = await Connection.connect({ address: info.temporalAddress });
  return {
    info,
    admin: createKubernetes(loadKubeConfig(info.kubeconfig)),
    control: await configFor('dvflow', 'dvflow-control'),
    configFor,
    kubectl,
    temporal: new Client({ connection }),
    stop: async () => {
      await connection.close();
      await stackDown({ directory, purge: true }, () => undefined);
    },
  };
}
