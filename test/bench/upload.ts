/** An image sent by curl into a volume: through the data port and the engine as it comes, beside scratch space and qemu-img. */
import { randomUUID } from 'node:crypto';
import { statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { DataPortPeer } from '../../activities/types/data-port.js';
import { makeTarget } from '../image/upload/support.js';
import { startLoopbackPort } from '../workers/data-port-client.js';
import type { Images } from './images.js';
import { CHILD, measure, verify, wallsOf, type Job, type Sample } from './measure.js';
import { METHODS, TO_TARGET, type Method } from './methods.js';
import { startNginx } from './server.js';
import { judge, ratios, spreadOf, type Spread, type Verdict } from './statistics.js';
import { takeTurns } from './turns.js';

/** Ways of an image from its owner to a disk. */
export const UPLOAD_METHODS = ['upload', 'cdi', 'plain'] as const;
export type UploadMethodName = (typeof UPLOAD_METHODS)[number];

/** What an upload must reach of CDI's way, as a factor. */
export const UPLOAD_MUST = 1;

const GATEWAY: DataPortPeer = 'dvflow-gateway';

/**
 * The lines, as in `methods.ts`; `ADDRESS` is the data port's, `UPLOAD` the session's URL under the name that its certificate has,
 * `TLS` the directory of the client's; `SECURE_ADDRESS` and `SECURE` the same of the server. The disk ends in its volume, and is put
 * beside the others by its name alone. CDI encrypts twice on this way, ours and its line here once.
 */
export const UPLOADS: Readonly<Record<UploadMethodName, Method>> = {
  upload: {
    title: 'curl into the data port, over mTLS',
    script: [
      'curl -sSf --connect-to "::$ADDRESS" --cacert "$TLS/ca.crt" --cert "$TLS/tls.crt" --key "$TLS/tls.key" -H "Upload-Offset: 0" -T "$IMAGE" "$UPLOAD" > "$CONVERSION"',
      'mv "$DISK" "$TARGET"',
    ].join('\n'),
  },
  cdi: {
    title: "CDI's way: curl to scratch over TLS, qemu-img convert",
    script: `curl -sSf --connect-to "::$SECURE_ADDRESS" --cacert "$TLS/ca.crt" -o "$SCRATCH" "$SECURE" && ${TO_TARGET}`,
  },
  plain: { ...METHODS.cdi, title: 'the same without encryption' },
};

/** Counted runs of each method. */
export interface UploadResult {
  readonly title: string;
  readonly samples: ReadonlyMap<UploadMethodName, readonly Sample[]>;
  /** Time of CDI's way over ours. */
  readonly ratio: Spread;
  readonly verdict: Verdict;
}

/** What is uploaded, and how often. */
export interface UploadRun {
  readonly images: Images;
  readonly quick: boolean;
  readonly pairs: number;
  readonly job: Job;
}

/** Uploads the plain qcow2 by each method in turns; the first round warms up, and its results are compared. */
export async function runUpload({ images, quick, pairs, job }: UploadRun): Promise<UploadResult> {
  await using loopback = await startLoopbackPort(5_000);
  const { tls } = loopback;
  const options = loopback.client(GATEWAY);
  const server = { port: () => loopback.port, client: () => options };
  const secure = await startNginx({
    root: dirname(job.image.file),
    directory: join(job.workspace.directory, 'secure'),
    tlsDirectory: tls('dvflow-node'),
  });
  const secureEnv = {
    SECURE_ADDRESS: `${secure.host}:${secure.port}`,
    SECURE: `https://${options.servername ?? 'localhost'}:${secure.port}/${basename(job.image.file)}`,
    TLS: tls(GATEWAY),
  };

  async function runOnce(name: UploadMethodName): Promise<Sample> {
    if (name !== 'upload') return await measure(UPLOADS[name], { ...job, env: { ...job.env, ...secureEnv } });
    const bytes = statSync(images.of('raw').file).size;
    const target = await makeTarget(job.workspace.directory, bytes, server, {}, CHILD);
    const request = {
      session: randomUUID(),
      contentType: 'kubevirt',
      length: statSync(job.image.file).size,
    } as const;
    const receiving = target.receive(request);
    const { url } = await target.locate(request);
    const { host, pathname } = new URL(url);
    const env = {
      ...job.env,
      ADDRESS: host,
      UPLOAD: `https://${options.servername ?? 'localhost'}:${new URL(url).port}${pathname}?session=${request.session}`,
      TLS: tls(GATEWAY),
      DISK: target.disk,
    };
    const sample = await measure(UPLOADS.upload, { ...job, env });
    await receiving.done;
    return sample;
  }

  try {
    const samples = await takeTurns({
      names: UPLOAD_METHODS,
      rounds: pairs,
      measure: runOnce,
      verify: (name) => verify(UPLOADS[name], job),
    });
    const ratio = spreadOf(ratios(wallsOf(samples.get('upload')), wallsOf(samples.get('cdi'))));
    const title = `plain qcow2, ${(job.image.bytes / 1e6).toFixed(0)} MB`;
    return { title, samples, ratio, verdict: judge(ratio, { must: UPLOAD_MUST }, quick) };
  } finally {
    secure.stop();
  }
}
