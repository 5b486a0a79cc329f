/** MachineConfigs of a HostPathProvisioner: made, kept as they should be, followed, removed. */
import { setTimeout as pause } from 'node:timers/promises';
import type { V1Node } from '@kubernetes/client-node';
import { Context } from '@temporalio/activity';
import { permanentFailure, transientFailure } from '../../failures.js';
import type { PreparationControlActivities } from '../../preparation-interfaces.js';
import type {
  MachineConfigsResult,
  PlannedMachineConfig,
  PoolRollout,
  ProvisionerFacts,
} from '../../types/preparation.js';
import { callForOutcome, listAll, type Kubernetes } from '../client.js';
import { holdsUnits, ignitionFor, labelsPaths, machineConfigBody, sharesUnits } from './machine-config.js';
import { poolOf, reaches, rolesFor, type RoleOfPools } from './machine-pools.js';
import { isOfThisRun, isOwn, MADE_FOR, runMark } from './ownership.js';
import { CONFIGS, findConfig, listConfigs, listMachinePools, removeConfigs } from './machine-config-api.js';
import { ROLE_LABEL, type MachineConfig, type MachineConfigPool } from './objects.js';
import { rolloutOf } from './rollout.js';

/** Time between two looks at a rollout, in ms: reboots take minutes. */
const POLL_MS = 3_000;
/** Longest time that one call follows a rollout, in ms. */
const WAIT_MS = 600_000;

/** Activities of MachineConfigs. */
export function createMachineConfigActivities({
  kubernetes,
  pollMs = POLL_MS,
}: {
  kubernetes: Kubernetes;
  pollMs?: number | undefined;
}): Pick<PreparationControlActivities, 'ensureMachineConfigs' | 'awaitRollout'> {
  async function ensureMachineConfigs(input: {
    provisioner: ProvisionerFacts;
    nodes: readonly string[];
    repelled?: readonly string[];
  }): Promise<MachineConfigsResult> {
    const pools = (await listMachinePools(kubernetes)) ?? [];
    const all = await listNodes(kubernetes);
    const { needed, unreachable } = assign(all, pools, input.nodes);
    const reached = rolesFor([...needed.keys()]);
    for (const [pool, nodes] of needed) {
      const why = reached.unreachable[pool.metadata.name];
      if (why !== undefined) for (const node of nodes) unreachable[node] = why;
    }
    const ignition = ignitionFor(await renderedVersions([...needed.keys()]));
    const configs: PlannedMachineConfig[] = [];
    for (const { role, pools: names } of reached.roles) {
      const body = machineConfigBody(input.provisioner, {
        role,
        directories: input.provisioner.directories,
        ignition,
      });
      configs.push(await ensure(input.provisioner, body, { role, pools: names }));
    }
    const kept = configs.map(({ name }) => name);
    // a taint that comes and goes is not worth two reboots of a pool
    const paused = [...assign(all, pools, input.repelled ?? []).needed.keys()];
    const serves = ({ metadata: { labels } }: MachineConfig): boolean =>
      paused.some((pool) => reaches(labels?.[ROLE_LABEL] ?? '', pool));
    await removeConfigs(
      kubernetes,
      input.provisioner.uid,
      (config) => !kept.includes(config.metadata.name) && !serves(config),
    );
    return { configs, unreachable };
  }

  async function renderedVersions(pools: readonly MachineConfigPool[]): Promise<(string | undefined)[]> {
    const names = pools.flatMap(({ spec }) => spec?.configuration?.name ?? []);
    const rendered = await Promise.all(names.map((name) => findConfig(kubernetes, name)));
    return rendered.map((one) => one?.spec?.config?.ignition?.version);
  }

  /** Somebody else's that does the same is as good, and a second one would reboot every node for nothing. */
  async function ensure(
    provisioner: ProvisionerFacts,
    body: MachineConfig,
    { role, pools }: RoleOfPools,
  ): Promise<PlannedMachineConfig> {
    const { name } = body.metadata;
    const paths = provisioner.directories.map(({ path }) => path);
    const found = await findConfig(kubernetes, name);
    const others = (await listConfigs(kubernetes, `${ROLE_LABEL}=${role}`)).filter(
      ({ metadata }) => metadata.name !== name && !isOwn(metadata),
    );
    if (found?.metadata.labels?.[MADE_FOR] !== undefined) {
      await keep(found, body, others);
      return { name, pools, created: isOfThisRun(found.metadata), foreign: false };
    }
    const same = found ? [found, ...others] : others;
    const foreign = same.find((one) => labelsPaths(one, paths));
    if (foreign) return { name: foreign.metadata.name, pools, created: false, foreign: true };
    if (found)
      throw permanentFailure(
        'ResourceExists',
        `MachineConfig ${name} exists and does not label ${paths.join(', ')}`,
      );
    refuseShadowing(body, others);
    const annotations = { ...body.metadata.annotations, ...runMark() };
    const marked = { ...body, metadata: { ...body.metadata, annotations } };
    const created = await callForOutcome(
      `creating MachineConfig ${name}`,
      kubernetes.custom.createClusterCustomObject({ ...CONFIGS, body: marked }) as Promise<object>,
      [409],
    );
    if (typeof created === 'string')
      throw transientFailure(
        'KubernetesUnavailable',
        `MachineConfig ${name} was made meanwhile: looking at it`,
      );
    return { name, pools, created: true, foreign: false };
  }

  /** One of an earlier HostPathProvisioner of this name is taken over: its nodes need no second reboot. */
  async function keep(
    found: MachineConfig,
    body: MachineConfig,
    others: readonly MachineConfig[],
  ): Promise<void> {
    const { name, uid, resourceVersion } = found.metadata;
    // fields come back in another order, and another version of Ignition alone is not worth a reboot
    const unchanged = holdsUnits(found, body) && holdsUnits(body, found);
    const same = unchanged && MARKED.every((at) => contains(found.metadata[at], body.metadata[at]));
    if (same) return;
    if (!unchanged) refuseShadowing(body, others);
    const metadata = {
      ...found.metadata,
      uid,
      resourceVersion,
      labels: { ...found.metadata.labels, ...body.metadata.labels },
      annotations: { ...found.metadata.annotations, ...body.metadata.annotations },
    };
    const config = unchanged ? found.spec?.config : body.spec?.config;
    const replaced = await callForOutcome(
      `changing MachineConfig ${name}`,
      kubernetes.custom.replaceClusterCustomObject({
        ...CONFIGS,
        name,
        body: { ...found, metadata, spec: { ...found.spec, config } },
      }) as Promise<object>,
    );
    if (typeof replaced === 'string')
      throw transientFailure(
        'KubernetesUnavailable',
        `MachineConfig ${name} changed meanwhile: looking at it anew`,
      );
  }

  async function awaitRollout(input: {
    configs: readonly PlannedMachineConfig[];
    known?: readonly PoolRollout[];
    waitMs?: number;
  }): Promise<readonly PoolRollout[]> {
    const { cancellationSignal: signal } = Context.current();
    const end = Date.now() + (input.waitMs ?? WAIT_MS);
    for (;;) {
      const now = await observe(input.configs);
      const changed = JSON.stringify(now) !== JSON.stringify(input.known);
      if (input.known === undefined || changed || Date.now() >= end) return now;
      await pause(pollMs, undefined, { signal });
    }
  }

  async function observe(configs: readonly PlannedMachineConfig[]): Promise<readonly PoolRollout[]> {
    const [pools = [], nodes] = await Promise.all([listMachinePools(kubernetes), listNodes(kubernetes)]);
    const names = [...new Set(configs.flatMap((config) => config.pools))].sort();
    return await Promise.all(
      names.map(async (name) => {
        const wanted = configs.filter((config) => config.pools.includes(name)).map((config) => config.name);
        const pool = pools.find(({ metadata }) => metadata.name === name);
        if (!pool) return gone(name);
        const own = nodes.filter((node) => poolOf(node, pools) === pool);
        return rolloutOf({ pool, nodes: own, configs: wanted, rendered: await isRendered(pool, wanted) });
      }),
    );
  }

  async function isRendered({ spec }: MachineConfigPool, wanted: readonly string[]): Promise<boolean> {
    const rendered = await findConfig(kubernetes, spec?.configuration?.name ?? '');
    if (!rendered) return false;
    const sources = await Promise.all(wanted.map((name) => findConfig(kubernetes, name)));
    return sources.every((source) => source !== undefined && holdsUnits(rendered, source));
  }

  return { ensureMachineConfigs, awaitRollout };
}

/** A pool takes one unit of a name, of whichever MachineConfig comes last by its own name: an administrator's would be gone unsaid. */
function refuseShadowing(body: MachineConfig, others: readonly MachineConfig[]): void {
  const shadowed = others.find((one) => sharesUnits(one, body));
  if (!shadowed) return;
  const units = (body.spec?.config?.systemd?.units ?? []).map(({ name }) => name).join(', ');
  throw permanentFailure(
    'ResourceExists',
    `MachineConfig ${shadowed.metadata.name} has the unit ${units} too, and it does not label all directories that are asked for: ` +
      'have it label them, or delete it, which has its nodes reboot',
  );
}

/** What of its metadata says whose a MachineConfig is. */
const MARKED = ['labels', 'annotations'] as const;

function contains(
  found: Readonly<Record<string, string>> = {},
  wanted: Readonly<Record<string, string>> = {},
): boolean {
  return Object.entries(wanted).every(([key, value]) => found[key] === value);
}

function gone(pool: string): PoolRollout {
  return { pool, state: 'degraded', message: `MachineConfigPool ${pool} is gone`, done: [], nodes: {} };
}

/** The pools that configure these nodes, each with them. */
function assign(
  nodes: readonly V1Node[],
  pools: readonly MachineConfigPool[],
  names: readonly string[],
): { needed: Map<MachineConfigPool, string[]>; unreachable: Record<string, string> } {
  const needed = new Map<MachineConfigPool, string[]>();
  const unreachable: Record<string, string> = {};
  for (const name of names) {
    const node = nodes.find(({ metadata }) => metadata?.name === name);
    const pool = node ? poolOf(node, pools) : 'it is gone';
    if (typeof pool === 'string') unreachable[name] = pool;
    else needed.set(pool, [...(needed.get(pool) ?? []), name]);
  }
  return { needed, unreachable };
}

async function listNodes({ core }: Kubernetes): Promise<readonly V1Node[]> {
  return await listAll('listing nodes', (page) => core.listNode(page));
}
