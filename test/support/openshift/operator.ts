/**
 * The Machine Config Operator's part, played step by step on a real API server (`vm-disks-docs.md` §(e4)): every state in which a
 * real cluster can be seen is one call away, and none comes by itself. What a unit does on its node is really done.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdirSync, readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { CoreV1Api, CustomObjectsApi, type V1Node } from '@kubernetes/client-node';
import type { KubeConfig } from '@kubernetes/client-node';
import { MERGE_PATCH } from '../../../activities/kubernetes/client.js';
import { openLabelAccess } from '../../../activities/node/preparation/xattr.js';
import { selects } from '../../../activities/kubernetes/label-selector.js';
import type { MachineConfig, MachineConfigPool } from '../../../activities/kubernetes/preparation/objects.js';

const GROUP = 'machineconfiguration.openshift.io';
const API = { group: GROUP, version: 'v1' } as const;
const CONFIGS = { ...API, plural: 'machineconfigs' } as const;
const POOLS = { ...API, plural: 'machineconfigpools' } as const;

/** What a test plays with. */
export type MachineConfigOperator = ReturnType<typeof createMachineConfigOperator>;

/** Text of the CRDs. */
export function machineConfigCrds(): string {
  return readFileSync(new URL('crds.yaml', import.meta.url), 'utf8');
}

/** The operator of a cluster that renders this version of Ignition. */
export function createMachineConfigOperator(kubeConfig: KubeConfig, ignition = '3.2.0') {
  const core = kubeConfig.makeApiClient(CoreV1Api);
  const custom = kubeConfig.makeApiClient(CustomObjectsApi);

  /** Waits until the API server, which has the CRDs, serves both kinds. */
  async function awaitKinds(): Promise<void> {
    for (let left = 300; ; left -= 1) {
      try {
        for (const kind of [CONFIGS, POOLS]) await custom.listClusterCustomObject(kind);
        return;
      } catch (error) {
        if (left === 0) throw error;
        await pause(100);
      }
    }
  }

  /** A pool as an installation has it, with what it renders before anybody adds to it. */
  async function addPool(name: string, roles: readonly string[] = [name]): Promise<void> {
    await create(CONFIGS, {
      kind: 'MachineConfig',
      metadata: { name: `00-${name}`, labels: { [`${GROUP}/role`]: name } },
      spec: { config: { ignition: { version: ignition } } },
    });
    await create(POOLS, {
      kind: 'MachineConfigPool',
      metadata: { name },
      spec: {
        machineConfigSelector: {
          matchExpressions: [{ key: `${GROUP}/role`, operator: 'In', values: roles }],
        },
        nodeSelector: { matchLabels: { [`node-role.kubernetes.io/${name}`]: '' } },
        maxUnavailable: 1,
        paused: false,
      },
    });
    await render(name);
  }

  /** An RHCOS node that runs its pool's configuration. */
  async function addNode(
    name: string,
    roles: readonly string[],
    taints: { key: string; effect: string }[] = [],
  ): Promise<void> {
    const labels = Object.fromEntries(roles.map((role) => [`node-role.kubernetes.io/${role}`, '']));
    await core.createNode({
      body: {
        metadata: {
          name,
          labels: { ...labels, 'kubernetes.io/hostname': name, 'node.openshift.io/os_id': 'rhcos' },
        },
        spec: { taints },
      },
    });
    await setReady(name, true);
  }

  async function setReady(name: string, ready: boolean): Promise<void> {
    const now = new Date().toISOString();
    const condition = {
      type: 'Ready',
      status: ready ? 'True' : 'Unknown',
      lastHeartbeatTime: now,
      lastTransitionTime: now,
      reason: 'play',
      message: '',
    };
    const nodeInfo = { osImage: 'Red Hat Enterprise Linux CoreOS 43.81.202003310153.0 (Ootpa)' };
    await core.patchNodeStatus(
      { name, body: { status: { conditions: [condition], nodeInfo } } },
      MERGE_PATCH,
    );
  }

  /** Render controller: merges what the pool selects, by name, and sets `spec.configuration`. Status is not touched. */
  async function render(name: string): Promise<string> {
    const pool = await getPool(name);
    const { items } = (await custom.listClusterCustomObject(CONFIGS)) as { items: MachineConfig[] };
    const sources = items
      .filter(({ metadata }) => !metadata.name.startsWith('rendered-'))
      .filter(({ metadata }) => selects(pool.spec?.machineConfigSelector, metadata.labels ?? {}))
      .sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
    const units = new Map(
      sources
        .flatMap(({ spec }) => spec?.config?.systemd?.units ?? [])
        .map((unit) => [unit.name, unit] as const),
    );
    const config = { ignition: { version: ignition }, systemd: { units: [...units.values()] } };
    const hash = createHash('md5').update(
      JSON.stringify([sources.map(({ metadata }) => metadata.name), config]),
    );
    const rendered = `rendered-${name}-${hash.digest('hex')}`;
    await create(CONFIGS, { kind: 'MachineConfig', metadata: { name: rendered }, spec: { config } });
    const source = sources.map(({ metadata }) => ({
      apiVersion: `${GROUP}/v1`,
      kind: 'MachineConfig',
      name: metadata.name,
    }));
    await patchPool(name, { spec: { configuration: { name: rendered, source } } });
    return rendered;
  }

  /** Node controller's status: the formulas of §(e5). */
  async function sync(name: string, extra: readonly object[] = []): Promise<void> {
    const pool = await getPool(name);
    const target = pool.spec?.configuration?.name ?? '';
    const nodes = await nodesOf(pool);
    const done = nodes.filter(
      (node) => read(node, 'currentConfig') === target && read(node, 'state') === 'Done',
    );
    const ready = done.filter(isReady);
    const updated = ready.length === nodes.length;
    const conditions = [
      {
        type: 'Updated',
        status: updated ? 'True' : 'False',
        reason: '',
        message: updated ? `All nodes are updated with ${target}` : '',
      },
      { type: 'Updating', status: updated ? 'False' : 'True', reason: '', message: '' },
      { type: 'Degraded', status: 'False', reason: '', message: '' },
      ...extra,
    ];
    const status = {
      observedGeneration: pool.metadata.generation,
      ...(updated ? { configuration: pool.spec?.configuration } : {}),
      conditions,
      machineCount: nodes.length,
      updatedMachineCount: done.length,
      readyMachineCount: ready.length,
    };
    await custom.patchClusterCustomObjectStatus({ ...POOLS, name, body: { status } }, MERGE_PATCH);
  }

  /** Node controller's choice: the daemon of this node begins, drains, and the node goes down. */
  async function begin(node: string, pool: string, state = 'Working', reason = ''): Promise<void> {
    const target = (await getPool(pool)).spec?.configuration?.name ?? '';
    await annotate(node, { desiredConfig: target, state, reason });
    await core.patchNode({ name: node, body: { spec: { unschedulable: true } } }, MERGE_PATCH);
    if (state === 'Working') await setReady(node, false);
  }

  /** The node is back: its units have run, unless `broken`, and the daemon says so. */
  async function finish(node: string, pool: string, { broken = false } = {}): Promise<void> {
    const target = (await getPool(pool)).spec?.configuration?.name ?? '';
    const rendered = (await custom.getClusterCustomObject({ ...CONFIGS, name: target })) as MachineConfig;
    if (!broken)
      for (const { contents = '' } of rendered.spec?.config?.systemd?.units ?? []) runUnit(contents);
    await annotate(node, { currentConfig: target, desiredConfig: target, state: 'Done', reason: '' });
    await core.patchNode({ name: node, body: { spec: { unschedulable: false } } }, MERGE_PATCH);
    await setReady(node, true);
  }

  /** Everything at once, for tests of something else. */
  async function rollOut(pool: string): Promise<void> {
    await render(pool);
    for (const { metadata } of await nodesOf(await getPool(pool))) await finish(metadata?.name ?? '', pool);
    await sync(pool);
  }

  async function annotate(name: string, annotations: Record<string, string>): Promise<void> {
    const named = Object.fromEntries(
      Object.entries(annotations).map(([key, value]) => [`${GROUP}/${key}`, value]),
    );
    await core.patchNode({ name, body: { metadata: { annotations: named } } }, MERGE_PATCH);
  }

  async function nodesOf(pool: MachineConfigPool): Promise<readonly V1Node[]> {
    const { items } = await core.listNode();
    return items.filter((node) => owningPool(node) === pool.metadata.name);
  }

  async function getPool(name: string): Promise<MachineConfigPool> {
    return (await custom.getClusterCustomObject({ ...POOLS, name })) as MachineConfigPool;
  }

  async function patchPool(name: string, body: object): Promise<void> {
    await custom.patchClusterCustomObject({ ...POOLS, name, body }, MERGE_PATCH);
  }

  async function create(kind: typeof CONFIGS | typeof POOLS, body: object): Promise<void> {
    await custom
      .createClusterCustomObject({ ...kind, body: { apiVersion: `${GROUP}/v1`, ...body } })
      .catch((error: { code?: number }) => {
        if (error.code !== 409) throw error;
      });
  }

  /** Every MachineConfig that somebody made, by name. */
  async function configs(): Promise<readonly MachineConfig[]> {
    const { items } = (await custom.listClusterCustomObject(CONFIGS)) as { items: MachineConfig[] };
    return items.filter(({ metadata }) => !/^(rendered|00)-/.test(metadata.name));
  }

  /** Takes pools, configurations and these nodes away. */
  async function removeAll(nodes: readonly string[]): Promise<void> {
    await custom.deleteCollectionClusterCustomObject(POOLS);
    await custom.deleteCollectionClusterCustomObject(CONFIGS);
    for (const name of nodes) await core.deleteNode({ name }).catch(() => undefined);
  }

  return {
    awaitKinds,
    addPool,
    addNode,
    setReady,
    render,
    sync,
    begin,
    finish,
    rollOut,
    patchPool,
    configs,
    create: (body: object) => create(CONFIGS, body),
    removeAll,
  };
}

function read({ metadata }: V1Node, key: string): string | undefined {
  return metadata?.annotations?.[`${GROUP}/${key}`];
}

/** A custom role before master, and master before worker. */
function owningPool({ metadata }: V1Node): string | undefined {
  const labels = Object.keys(metadata?.labels ?? {}).filter((key) =>
    key.startsWith('node-role.kubernetes.io/'),
  );
  const roles = labels.map((key) => key.slice(key.indexOf('/') + 1));
  const custom = roles.find((role) => role !== 'master' && role !== 'worker');
  return custom ?? ['master', 'worker'].find((role) => roles.includes(role));
}

function isReady({ spec, status }: V1Node): boolean {
  const ready = status?.conditions?.find(({ type }) => type === 'Ready');
  return ready?.status === 'True' && !spec?.unschedulable;
}

/** Runs a oneshot unit as systemd does: `ExecStartPre` may fail, and a new directory gets the policy's default label. */
function runUnit(contents: string): void {
  assert.match(contents, /^Type=oneshot$/m);
  for (const [, dash, command = ''] of contents.matchAll(/^ExecStart(?:Pre)?=(-?)(.*)$/gm)) {
    const [file = '', ...args] = command.split(' ');
    const path = args.at(-1) ?? '';
    if (file.endsWith('/mkdir')) {
      // without SELinux in the kernel a new directory has no label to inherit
      if (mkdirSync(path, { recursive: true })) openLabelAccess().write(path, 'system_u:object_r:var_t:s0');
    } else execFileSync(file, args, { stdio: dash ? 'ignore' : 'inherit' });
  }
}
