/** Which MachineConfigPool a node belongs to, and by which role a MachineConfig reaches a pool (`vm-disks-docs.md` §(e4)). */
import type { V1Node } from '@kubernetes/client-node';
import { selects } from '../label-selector.js';
import { ROLE_LABEL, type MachineConfigPool } from './objects.js';

const MASTER = 'master';
const WORKER = 'worker';

/**
 * The pool that configures a node, as the Machine Config Operator judges: a custom one before `worker`; `master` for a node of both
 * roles, which the configuration of `worker` never reaches. Text says why there is none.
 */
export function poolOf(node: V1Node, pools: readonly MachineConfigPool[]): MachineConfigPool | string {
  const labels = node.metadata?.labels ?? {};
  const selecting = pools.filter(({ spec }) => selects(spec?.nodeSelector, labels));
  const named = (name: string): MachineConfigPool | undefined =>
    selecting.find(({ metadata }) => metadata.name === name);
  const [custom, ...others] = selecting.filter(({ metadata }) => ![MASTER, WORKER].includes(metadata.name));
  if (custom && others.length > 0) {
    const names = [custom, ...others].map(({ metadata }) => metadata.name).sort();
    return `it belongs to ${names.length} custom MachineConfigPools (${names.join(', ')}), and none of them configures it`;
  }
  const master = named(MASTER);
  if (custom && master) {
    return `it belongs to the MachineConfigPools ${MASTER} and ${custom.metadata.name}, which OpenShift does not support`;
  }
  return custom ?? master ?? named(WORKER) ?? 'no MachineConfigPool selects it';
}

/** Pools that MachineConfigs of one role reach, among those that need one. */
export interface RoleOfPools {
  readonly role: string;
  readonly pools: readonly string[];
}

/**
 * The fewest roles that reach all these pools: a custom pool that takes the MachineConfigs of `worker` needs no second one where
 * `worker` gets its own. A pool that no label of a role can reach is told in `unreachable`.
 */
export function rolesFor(pools: readonly MachineConfigPool[]): {
  readonly roles: readonly RoleOfPools[];
  readonly unreachable: Readonly<Record<string, string>>;
} {
  const roles: { role: string; pools: string[] }[] = [];
  const unreachable: Record<string, string> = {};
  for (const pool of [...pools].sort(builtInFirst)) {
    const { name } = pool.metadata;
    const shared = roles.find(({ role }) => reaches(role, pool));
    const role = shared ? undefined : candidates(pool).find((one) => reaches(one, pool));
    if (shared) shared.pools.push(name);
    else if (role !== undefined) roles.push({ role, pools: [name] });
    else
      unreachable[name] =
        `MachineConfigPool ${name} selects no MachineConfig by the label ${ROLE_LABEL} alone`;
  }
  return { roles, unreachable };
}

/** The built-in pools first, so that what they get is known when the custom ones are looked at. */
function builtInFirst(a: MachineConfigPool, b: MachineConfigPool): number {
  const rank = ({ metadata }: MachineConfigPool): number => [MASTER, WORKER].indexOf(metadata.name) >>> 0;
  return rank(a) - rank(b) || (a.metadata.name < b.metadata.name ? -1 : 1);
}

/** Whether a pool takes the MachineConfigs of a role. */
export function reaches(role: string, { spec }: MachineConfigPool): boolean {
  return selects(spec?.machineConfigSelector, { [ROLE_LABEL]: role });
}

/** Its own name, then whatever its selector names; never first the role of another pool, whose nodes would get it too. */
function candidates({ metadata, spec }: MachineConfigPool): readonly string[] {
  const { matchLabels = {}, matchExpressions = [] } = spec?.machineConfigSelector ?? {};
  const listed = matchExpressions
    .filter(({ key, operator }) => key === ROLE_LABEL && operator === 'In')
    .flatMap(({ values = [] }) => values);
  const exact = matchLabels[ROLE_LABEL];
  const others = [...(exact === undefined ? [] : [exact]), ...listed];
  const builtIn = (role: string): boolean => role === MASTER || role === WORKER;
  return [metadata.name, ...others.filter((role) => !builtIn(role)), ...others.filter(builtIn)];
}
