import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { MERGE_PATCH } from '../../activities/kubernetes/client.js';
import type { SourceRequest } from '../../activities/image/source/types.js';
import type { FailureType } from '../../activities/types.js';
import { createEndpoints, type Endpoints } from '../image/support/endpoints.js';
import { makeRaw, MIB } from '../image/support/images.js';
import { COMPRESSIONS, FORMATS, known, rows, type Row } from '../image/support/matrix.js';
import { useGoProgram } from '../support/servers/go-servers.js';
import { useRegistryProgram } from '../support/servers/registry-server.js';
import { chosen } from '../support/breadth.js';
import { useStack } from '../support/stack.js';
import { createUploads, workflowOf } from './uploads.js';
import { assertSameDisk, createWorld, type World } from './world.js';

/** A request that a DataVolume can ask for. */
type Fetched = Exclude<SourceRequest, { kind: 'file' }>;

/** What an unsupported row fails by. */
const REFUSALS: Readonly<Record<string, FailureType>> = {
  kubevirt: 'UnsupportedFormat',
  archive: 'ContentTypeNotSupported',
};

describe('support matrix, row by row through DataVolumes', function () {
  this.timeout(180_000);
  useGoProgram();
  useRegistryProgram();
  const stack = useStack();
  const directory = mkdtempSync(join(tmpdir(), 'dvflow-matrix-'));
  const from = { raw: `${directory}/disk.raw`, tree: `${directory}/tree` };
  let world: World;
  let endpoints: Endpoints;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    endpoints = createEndpoints();
    namespace = await world.createNamespace('matrix');
    makeRaw(from.raw, 5 * MIB + 512 * 3);
    mkdirSync(`${from.tree}/sub`, { recursive: true });
    execFileSync('sh', ['-c', `echo hello > '${from.tree}/sub/file'; cp '${from.raw}' '${from.tree}/disk'`]);
  });
  after(async () => {
    await configure({ insecureRegistries: null });
    await endpoints[Symbol.asyncDispose]();
    rmSync(directory, { recursive: true, force: true });
  });

  /** The source of a DataVolume that asks for the same as a request of the engine, with the objects that it names. */
  async function sourceOf(request: Fetched, name: string): Promise<object> {
    if (request.kind === 'registry') {
      await configure({ insecureRegistries: [new URL(request.url).host] });
      return { registry: { url: request.url } };
    }
    const secret = keysOf(request);
    if (secret)
      await world.core.createNamespacedSecret({
        namespace,
        body: { metadata: { name }, stringData: secret },
      });
    const ca = request.kind === 'http' ? request.ca : undefined;
    if (ca) {
      const body = { metadata: { name }, data: { 'ca.pem': ca } };
      await world.core.createNamespacedConfigMap({ namespace, body });
    }
    const named = { ...(secret ? { secretRef: name } : {}), ...(ca ? { certConfigMap: name } : {}) };
    return { [request.kind]: { url: request.url, ...named } };
  }

  async function configure(spec: object): Promise<void> {
    const config = { group: 'cdi.kubevirt.io', version: 'v1beta1', plural: 'cdiconfigs', name: 'config' };
    await world.custom.patchClusterCustomObject({ ...config, body: { spec } }, MERGE_PATCH);
  }

  /** Sends a file as the gateway would. */
  async function upload(name: string, { content_type: content = '' }: Row, path: string): Promise<void> {
    const uploads = createUploads(stack, world);
    const made = await uploads.create(namespace, name, { contentType: content });
    await world.awaitPhase(namespace, name, 'UploadReady', 60_000);
    const contentType = content === 'archive' ? 'archive' : 'kubevirt';
    const answer = await uploads.sendFile(workflowOf(made), path, { contentType });
    assert.equal(answer.status, 200, answer.text);
  }

  async function succeeds(name: string, row: Row): Promise<void> {
    await world.awaitPhase(namespace, name, 'Succeeded', 90_000);
    // whatever the documents say that CDI needs
    const annotations = (await world.claim(namespace, name))?.metadata?.annotations ?? {};
    assert.ok(
      !('cdi.kubevirt.io/storage.import.requiresScratch' in annotations),
      'it needs no scratch space',
    );
    const disk = await world.diskOf(namespace, name);
    if (row['content_type'] === 'kubevirt') return await assertSameDisk(from.raw, 'raw', disk);
    assert.ok(!existsSync(disk));
    execFileSync('diff', ['--recursive', '--no-dereference', from.tree, dirname(disk)]);
  }

  async function isRefused(name: string, row: Row, create: () => Promise<unknown>): Promise<void> {
    const inventory = await world.inventory();
    const refusal = await create().then(
      () => undefined,
      (error: unknown) => String(error),
    );
    // CDI's own words, from the API server
    if (refusal) assert.match(refusal, /ContentType must be kubevirt when Source is Registry/);
    else {
      const { status } = await world.awaitPhase(namespace, name, 'Failed', 30_000);
      const reason = status?.conditions?.find(({ type }) => type === 'Running')?.reason;
      assert.equal(reason, known(REFUSALS, row, 'content_type'));
    }
    await world.assertUnchanged(inventory);
  }

  // how a compressed file comes over each kind of server is the engine's, and its own walk tries every row
  const stands = ({ endpoint, format, compression }: Row): boolean =>
    compression === 'none' || endpoint === 'http' || (endpoint === 'registry' && format === 'raw');
  for (const [index, row] of chosen(rows(), stands).entries()) {
    const { content_type: content, endpoint, format, compression } = row;
    const sent = endpoint === 'upload';
    // archives are taken too, beyond the documents: virtctl sends them
    const works = (sent && content === 'archive') || known({ true: true, false: false }, row, 'supported');
    const packed = compression === 'none' ? format : `${format} in ${compression}`;
    it(`${content}, ${endpoint}, ${packed}: ${works ? 'works' : 'is refused, and nothing is allocated'}`, async () => {
      const name = `row-${index}`;
      const plain = `${directory}/${name}.${format}`;
      known(FORMATS, row, 'format')(from, plain);
      if (sent) {
        await upload(name, row, known(COMPRESSIONS, row, 'compression')(plain));
        return await succeeds(name, row);
      }
      const { request } = await known(endpoints.byName, row, 'endpoint').offer(
        known(COMPRESSIONS, row, 'compression')(plain),
      );
      const source = await sourceOf(request as Fetched, name);
      const create = async () =>
        await world.createImport(namespace, name, {}, { source, contentType: content });
      if (!works) return await isRefused(name, row, create);
      await create();
      await succeeds(name, row);
    });
  }
});

/** CDI's Secret of a source. */
function keysOf(request: Fetched): Record<string, string> | undefined {
  if (request.kind === 'http' && request.username !== undefined)
    return { accessKeyId: request.username, secretKey: request.password ?? '' };
  if (request.kind === 's3')
    return { accessKeyId: request.accessKeyId ?? '', secretKey: request.secretKey ?? '' };
  return undefined;
}
