/** What `dvflow upload` asks of the cluster, with the rights of whoever runs it. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeConfig } from '@kubernetes/client-node';
import { openDataVolumes, type DataVolume } from '../data-volumes.js';
import { CliError, EXIT } from '../errors.js';
import { endingWith, passingFault } from './kubernetes-calls.js';

/** Time between two looks, in ms. */
const LOOK_MS = 500;
/** What a DataVolume says that waits for another client, since the last one's file is not to be its disk. */
const REFUSED = /^upload failed, send again: /u;
/** A file that was sent is refused when so many looks, one after another, say so: the first ones may be of the try before. */
const REFUSED_LOOKS = 12;

/** Tells the user. */
type Say = (text: string) => void;
/** Whether a DataVolume that is complete already will do, since it may be by this very upload. @default 'refused' */
type Complete = 'taken' | 'refused';

/** A DataVolume that is uploaded into. */
export interface UploadCluster {
  /** Creates the DataVolume, or takes the one that is there. */
  ensure(manifest: object | undefined): Promise<DataVolume>;
  /**
   * Resolves when it waits for the bytes, or is complete where that will do; `say` is told what it is doing until then, and when
   * Kubernetes does not answer. @throws CliError when it never will
   */
  awaitReady(say: Say, complete?: Complete): Promise<DataVolume>;
  /** Resolves when the disk is offered to its claim. @throws CliError when it has failed */
  awaitSucceeded(say: Say): Promise<DataVolume>;
  /** @throws CliError when the DataVolume takes no upload any more: it has failed, is gone, or is complete where that will not do */
  check(complete?: Complete): Promise<void>;
  /** A token for the claim, good for minutes. @throws CliError where the name is another DataVolume's by now */
  token(): Promise<string>;
  /**
   * Where uploads go, as CDIConfig tells; `say` is told when Kubernetes does not answer. @throws CliError where CDIConfig does not
   * tell it
   */
  proxyUrl(say: Say): Promise<string>;
}

/** Which DataVolume; `signal` ends what waits for it, with its reason. */
export interface Uploaded {
  readonly namespace: string;
  readonly name: string;
  readonly signal: AbortSignal;
}

/** Opens the cluster for one DataVolume: the first one that is seen, and no other one that has its name later. */
export async function openUploadCluster(
  kubeConfig: KubeConfig,
  { namespace, name, signal }: Uploaded,
): Promise<UploadCluster> {
  const { CustomObjectsApi } = await import('../../activities/kubernetes/library.js');
  const options = await endingWith(signal);
  const dataVolumes = await openDataVolumes(kubeConfig, options);
  const custom = kubeConfig.makeApiClient(CustomObjectsApi);
  const title = `DataVolume ${namespace}/${name}`;
  let uid: string | undefined;

  /** @throws CliError for another one */
  function own(found: DataVolume): DataVolume {
    uid ??= found.metadata.uid;
    if (found.metadata.uid === uid) return found;
    throw new CliError(`${title} is gone, another one has its name`, EXIT.permanent);
  }

  /** @throws CliError when it is gone */
  async function get(): Promise<DataVolume> {
    const found = await dataVolumes.get(namespace, name).catch((error: unknown) => {
      if ((error as { code?: number }).code !== 404) throw error;
      throw new CliError(`${title} is gone`, EXIT.permanent, { cause: error });
    });
    return own(found);
  }

  let answering = true;

  /** Nothing where Kubernetes does not answer, of which the user is told once. */
  async function look<T>(say: Say, ask: () => Promise<T>): Promise<T | undefined> {
    try {
      const found = await ask();
      answering = true;
      return found;
    } catch (error) {
      signal.throwIfAborted();
      const fault = passingFault(error);
      if (fault === undefined) throw error;
      if (answering) say(`Kubernetes does not answer (${fault}): trying again`);
      answering = false;
      return undefined;
    }
  }

  /** Asks until `judge` has found what is waited for. */
  async function until<T>(say: Say, ask: () => Promise<T>, judge: (found: T) => boolean): Promise<T> {
    for (;;) {
      signal.throwIfAborted();
      const found = await look(say, ask);
      if (found && judge(found)) return found;
      await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
    }
  }

  async function cdiConfig(): Promise<{ status?: { uploadProxyURL?: string } }> {
    return (await custom.getClusterCustomObject(
      { group: 'cdi.kubevirt.io', version: 'v1beta1', plural: 'cdiconfigs', name: 'config' },
      options,
    )) as object;
  }

  /** @throws CliError for what no upload makes complete any more */
  function requireOpen(found: DataVolume, complete: Complete): void {
    const { phase } = found.status ?? {};
    if (phase === 'Failed') throw failed(title, found);
    if (phase === 'Succeeded' && complete === 'refused')
      throw new CliError(`${title} is complete already: delete it, or choose another name`, EXIT.permanent);
  }

  function isReady(found: DataVolume, say: Say, complete: Complete): boolean {
    requireOpen(found, complete);
    const { phase } = found.status ?? {};
    if (phase === 'UploadReady' || phase === 'Succeeded') return true;
    if (phase === 'WaitForFirstConsumer')
      throw new CliError(
        `${title} waits for the first pod that uses its claim: start one, or create it without --wait-for-consumer`,
        EXIT.permanent,
      );
    say(`${title}: ${phase || 'Pending'}`);
    return false;
  }

  return {
    async ensure(manifest) {
      if (manifest === undefined) return own(await dataVolumes.get(namespace, name));
      try {
        return own(await dataVolumes.create(namespace, manifest));
      } catch (error) {
        if ((error as { code?: number }).code !== 409) throw error;
        return own(await dataVolumes.get(namespace, name));
      }
    },
    awaitReady: async (say, complete = 'refused') =>
      await until(say, get, (found) => isReady(found, say, complete)),
    async awaitSucceeded(say) {
      let refused = 0;
      return await until(say, get, (found) => {
        requireOpen(found, 'taken');
        if (found.status?.phase === 'Succeeded') return true;
        say('sent; waiting for the claim');
        const { message = '' } = runningOf(found) ?? {};
        refused = REFUSED.test(message) ? refused + 1 : 0;
        if (refused < REFUSED_LOOKS) return false;
        // the server had taken it for whole: what was lost since may come by another try
        throw new CliError(`${title}: ${message}`, EXIT.transient);
      });
    },
    async check(complete = 'refused') {
      // whether it can be asked at all is not the question
      const found = await get().catch((error: unknown) => {
        signal.throwIfAborted();
        if (error instanceof CliError) throw error;
        return undefined;
      });
      if (found) requireOpen(found, complete);
    },
    async token() {
      const body = {
        apiVersion: 'upload.cdi.kubevirt.io/v1beta1',
        kind: 'UploadTokenRequest',
        metadata: { name, namespace },
        spec: { pvcName: name },
      };
      const made = (await custom.createNamespacedCustomObject(
        {
          group: 'upload.cdi.kubevirt.io',
          version: 'v1beta1',
          plural: 'uploadtokenrequests',
          namespace,
          body,
        },
        options,
      )) as { status?: { token?: string } };
      // it is for the claim that has the name: that of this DataVolume, which was still there afterwards
      await get();
      return made.status?.token ?? '';
    },
    async proxyUrl(say) {
      const config = await until(say, cdiConfig, () => true);
      const url = config.status?.uploadProxyURL;
      if (!url) {
        const cure = 'set uploadProxyURLOverride there, or give --uploadproxy-url';
        throw new CliError(`CDIConfig does not say where uploads go: ${cure}`, EXIT.permanent);
      }
      return url.includes('://') ? url : `https://${url}`;
    },
  };
}

function runningOf({ status }: DataVolume) {
  return status?.conditions?.find(({ type }) => type === 'Running');
}

function failed(title: string, found: DataVolume): CliError {
  const condition = runningOf(found);
  return new CliError(`${title} has failed: ${condition?.reason}: ${condition?.message}`, EXIT.permanent);
}
