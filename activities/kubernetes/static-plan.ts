/** The plan of a claim that gets a volume which somebody made: nothing provisions one for it. */
import type { V1PersistentVolume } from '@kubernetes/client-node';
import type { TargetPlan } from '../types.js';
import { completeModes, type ClaimModes } from './claim-modes.js';
import { offeredSets } from './claim-property-sets.js';
import type { Kubernetes } from './client.js';
import { callIfFound } from './client.js';
import { asksForKept } from './kept-volumes.js';
import { NO_PROVISIONER, PROVISION_ON_NODE } from './names.js';
import type { CdiConfig, ClaimTemplate, DataVolume } from './objects.js';
import { filesystemOverhead, usableSpace } from './overhead.js';
import { chooseStorageClass, readModeDefaults, readStorageProfile } from './storage-classes.js';
import { refuseContent, requestOf, templateOf } from './claim-template.js';
import { refuseForGood, type WantedVolume } from './volume-choice.js';

/** What decides such a plan, read from the cluster. */
export interface StaticFacts {
  readonly dataVolume: DataVolume;
  readonly config: CdiConfig | undefined;
  readonly volumes: readonly V1PersistentVolume[];
}

/**
 * The plan of a DataVolume that names a volume or selects one, or whose class nothing provisions; `undefined` for any other. A class
 * whose object nobody made counts, as for Kubernetes, if there is a volume of it.
 * @throws {@link FailureType} `StorageClassNotFound`, `InvalidDataVolume`, `ContentTypeNotSupported`, `IncompatiblePVC` where the
 * volume that it names can never serve it
 */
export async function planStaticTarget(
  kubernetes: Kubernetes,
  facts: StaticFacts,
): Promise<TargetPlan | undefined> {
  const { dataVolume, config, volumes } = facts;
  const { api, template } = templateOf(dataVolume);
  const found = await staticClass(kubernetes, { api, template, volumes });
  if (!found) return undefined;
  const named = volumes.find(({ metadata }) => metadata?.name === template.volumeName);
  const name = found.name || (template.storageClassName ?? named?.spec?.storageClassName ?? '');
  refuseContent(dataVolume, template);
  const modes = await modesOf(kubernetes, facts, { name, volumes: named ? [named] : volumes });
  refuseContent(dataVolume, modes);
  const block = modes.volumeMode === 'Block';
  const overhead = block ? 0 : filesystemOverhead(config, name);
  const profile = api === 'storage' && name ? await readStorageProfile(kubernetes, name) : undefined;
  const requestBytes = requestOf(template, api, overhead, profile);
  const target: TargetPlan = {
    claim: 'create',
    staticVolume: true,
    storageClass: name,
    provisioner: NO_PROVISIONER,
    // whatever the class says: the node is the volume's, and no consumer could choose another
    bindingMode: 'Immediate',
    reclaimPolicy: 'Retain',
    waitForConsumer: false,
    ...modes,
    requestBytes,
    usableBytes: block ? requestBytes : usableSpace(overhead, requestBytes),
    overhead,
    api,
    pool: { path: '', useNamingPrefix: false },
    preallocation:
      dataVolume.spec.preallocation ?? config?.spec?.preallocation ?? config?.status?.preallocation ?? false,
  };
  if (named) refuseForGood(named, wantedVolume(dataVolume, target));
  return target;
}

/** What the volume must be like that a planned claim gets. */
export function wantedVolume(dataVolume: DataVolume, target: TargetPlan): WantedVolume {
  const { namespace, name, annotations } = dataVolume.metadata;
  const { template } = templateOf(dataVolume);
  const { volumeName, selector, storageClassName } = template;
  const node = annotations?.[PROVISION_ON_NODE];
  // whoever names or selects a volume without a class takes it with the class that it has
  const anyClass = storageClassName === undefined && (volumeName !== undefined || selector !== undefined);
  return {
    namespace,
    name,
    volumeMode: target.volumeMode,
    accessModes: target.accessModes,
    requestBytes: target.requestBytes,
    ...(anyClass ? {} : { storageClass: target.storageClass }),
    ...(volumeName ? { volumeName } : {}),
    ...(selector ? { selector } : {}),
    ...(node ? { node } : {}),
    ...(asksForKept(dataVolume) ? { leavesKept: true } : {}),
  };
}

interface Asked {
  readonly api: 'pvc' | 'storage';
  readonly template: ClaimTemplate;
}

/** The class of a static claim; `''`: none, or that of the volume which is chosen. */
async function staticClass(
  kubernetes: Kubernetes,
  { api, template, volumes }: Asked & Pick<StaticFacts, 'volumes'>,
): Promise<{ readonly name: string } | undefined> {
  const { storageClassName: name, volumeName, selector } = template;
  if (volumeName || selector || name === '') return { name: name ?? '' };
  if (name === undefined) {
    const { metadata, provisioner } = await chooseStorageClass(kubernetes, undefined, api);
    return provisioner === NO_PROVISIONER ? { name: metadata?.name ?? '' } : undefined;
  }
  const found = await callIfFound(
    `reading StorageClass ${name}`,
    kubernetes.storage.readStorageClass({ name }),
  );
  if (found) return found.provisioner === NO_PROVISIONER ? { name } : undefined;
  return volumes.some(({ spec }) => spec?.storageClassName === name) ? { name } : undefined;
}

/** Modes that `spec.storage` leaves out are those of the volume that it names, or of the class's volumes. */
async function modesOf(
  kubernetes: Kubernetes,
  { dataVolume }: StaticFacts,
  { name, volumes }: { readonly name: string; readonly volumes: readonly V1PersistentVolume[] },
): Promise<ClaimModes> {
  const { api, template } = templateOf(dataVolume);
  if (api === 'pvc')
    return {
      accessModes: template.accessModes ?? [],
      volumeMode: template.volumeMode === 'Block' ? 'Block' : 'Filesystem',
    };
  const profile = name ? await readStorageProfile(kubernetes, name) : undefined;
  return completeModes({
    template,
    contentType: dataVolume.spec.contentType,
    storageClass: name,
    defaults: await readModeDefaults(kubernetes),
    sets: offeredSets({ metadata: { name }, provisioner: NO_PROVISIONER }, profile, volumes),
  });
}
