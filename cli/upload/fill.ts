/** Fills a DataVolume from a file: what `dvflow upload` does, from the first look to the last. */
import { createBegunUploadStore, type BegunUploadStore } from './begun-upload.js';
import type { UploadCluster } from './cluster.js';
import { sendFile, type Sending, type Sent } from './send.js';
import type { UploadView } from './view.js';

/** What is filled, and how. */
export interface Filling extends Pick<Sending, 'source' | 'signal' | 'ca' | 'insecure'> {
  readonly cluster: UploadCluster;
  /** Of the DataVolume; absent: it is there already. */
  readonly manifest: object | undefined;
  /** `algorithm:hex` of the file, which may have to be read for it. */
  readonly checksum: () => Promise<string | undefined>;
  /** `https://host/tus/uploads` */
  readonly endpoint: () => Promise<string>;
  /** Where begun uploads are remembered. */
  readonly stateDirectory: string;
  readonly view: Pick<UploadView, 'say' | 'show'>;
}

/** How it went. */
export interface Filled extends Sent {
  readonly checksum?: string;
}

/**
 * Resolves when the claim holds the disk. What an earlier call has begun is gone on with; what it had sent when it ended is looked
 * after to the end.
 * @throws CliError
 */
export async function fill(filling: Filling): Promise<Filled> {
  const { cluster, manifest, checksum: read, endpoint, stateDirectory, view, ...sending } = filling;
  const { source, signal } = sending;
  const say = (text: string): void => view.say(text);
  const { metadata } = await cluster.ensure(manifest);
  const target = { target: metadata.uid, path: source.path };
  const begun = createBegunUploadStore(stateDirectory, target);
  const mayBeOurs = (): boolean => begun.read()?.version === source.version;
  // the file may take long to be read
  await cluster.check(mayBeOurs() ? 'taken' : 'refused');
  const checksum = await read();
  const isOurs = (): boolean => mayBeOurs() && begun.read()?.checksum === checksum;
  const { status } = await cluster.awaitReady(say, isOurs() ? 'taken' : 'refused');
  const checked = checksum === undefined ? {} : { checksum };
  const sent =
    status?.phase === 'Succeeded' && begun.read()?.sent
      ? { bytes: source.size, bytesSent: 0, resumed: true, retries: 0 }
      : await sendFile({
          ...sending,
          ...checked,
          endpoint: await endpoint(),
          begun,
          token: () => cluster.token(),
          onProgress: (done, total) => view.show(done, total),
          // the answer to the last byte may have been lost: the upload is asked for as long as it is known
          check: async () => await cluster.check(isOurs() ? 'taken' : 'refused'),
          notice: say,
        });
  await cluster.awaitSucceeded(say).catch((error: unknown) => {
    if (!signal.aborted) doubt(begun);
    throw error;
  });
  begun.write(null);
  return { ...sent, ...checked };
}

/** It was sent, and is not to be the disk: of one that is complete later this is no proof. */
function doubt(begun: BegunUploadStore): void {
  const found = begun.read();
  if (found) begun.write({ ...found, sent: false });
}
