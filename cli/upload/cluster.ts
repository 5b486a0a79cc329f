/** What `dvflow upload` asks of the cluster, with the rights of whoever runs it. */
import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeConfig } from '@kubernetes/client-node';
import { openDataVolumes, type DataVolume } from '../data-volumes.js';
import { CliError, EXIT } from '../errors.js';

/** Time between two looks, in ms. */
const LOOK_MS = 500;
/** A file that was sent is refused when so many looks, one after another, say so: the first ones may be of the try before. */
const REFUSED_LOOKS = 6;

/** A DataVolume that is uploaded into. */
export interface UploadCluster {
  /** Creates the DataVolume, or takes the one that is there. */
  ensure(manifest: object | undefined): Promise<DataVolume>;
  /** Resolves when it waits for the bytes; `say` is told what it is doing until then. @throws CliError when it never will */
  awaitReady(say: (text: string) => void): Promise<DataVolume>;
  /** Resolves when the disk is offered to its claim. @throws CliError when it has failed */
  awaitSucceeded(): Promise<DataVolume>;
  /** @throws CliError when the DataVolume takes no upload any more: it has failed, is gone, or is complete by another one */
  check(): Promise<void>;
  /** A token for the claim, good for minutes. @throws CliError where the name is another DataVolume's by now */
  token(): Promise<string>;
  /** Where uploads go, as CDIConfig tells. @throws CliError where it does not */
  proxyUrl(): Promise<string>;
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
  const dataVolumes = await openDataVolumes(kubeConfig);
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

  async function until(
    phase: string,
    say: (text: string) => void,
    judge: (found: DataVolume) => void = () => undefined,
  ): Promise<DataVolume> {
    for (;;) {
      signal.throwIfAborted();
      const found = await get();
      const { phase: now = '' } = found.status ?? {};
      if (now === phase) return found;
      if (now === 'Failed') throw failed(title, found);
      if (now === 'Succeeded') {
        throw new CliError(`${title} is complete already: delete it, or choose another name`, EXIT.permanent);
      }
      if (now === 'WaitForFirstConsumer') {
        throw new CliError(
          `${title} waits for the first pod that uses its claim: start one, or create it without --wait-for-consumer`,
          EXIT.permanent,
        );
      }
      judge(found);
      say(`${title}: ${now || 'Pending'}`);
      await sleep(LOOK_MS, undefined, { signal }).catch(() => undefined);
    }
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
    awaitReady: async (say) => await until('UploadReady', say),
    async awaitSucceeded() {
      let refused = 0;
      return await until(
        'Succeeded',
        () => undefined,
        (found) => {
          const condition = runningOf(found);
          refused = condition?.reason === 'UploadFailed' ? refused + 1 : 0;
          if (refused < REFUSED_LOOKS) return;
          throw new CliError(`${title}: ${condition?.reason}: ${condition?.message}`, EXIT.permanent);
        },
      );
    },
    async check() {
      // whether it can be asked at all is not the question
      const found = await get().catch((error: unknown) => {
        if (error instanceof CliError) throw error;
        return undefined;
      });
      if (found?.status?.phase === 'Failed') throw failed(title, found);
    },
    async token() {
      const body = {
        apiVersion: 'upload.cdi.kubevirt.io/v1beta1',
        kind: 'UploadTokenRequest',
        metadata: { name, namespace },
        spec: { pvcName: name },
      };
      const made = (await custom.createNamespacedCustomObject({
        group: 'upload.cdi.kubevirt.io',
        version: 'v1beta1',
        plural: 'uploadtokenrequests',
        namespace,
        body,
      })) as { status?: { token?: string } };
      // it is for the claim that has the name: that of this DataVolume, which was still there afterwards
      await get();
      return made.status?.token ?? '';
    },
    async proxyUrl() {
      const config = (await custom.getClusterCustomObject({
        group: 'cdi.kubevirt.io',
        version: 'v1beta1',
        plural: 'cdiconfigs',
        name: 'config',
      })) as { status?: { uploadProxyURL?: string } };
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
