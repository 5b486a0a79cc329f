import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, statSync } from 'node:fs';
import { assertContentType } from '../../activities/image/content-type.js';
import { planImage } from '../../activities/image/plan-image.js';
import { createRecordStore } from '../../activities/image/resume-record.js';
import type { ImageSource } from '../../activities/image/source/types.js';
import { openLocalDirectory } from '../../activities/image/target/local-target.js';
import { unpackImage } from '../../activities/image/unpack-image.js';
import type { ContentType, TransferResult } from '../../activities/types.js';
import { useGoProgram } from '../support/servers/go-servers.js';
import { useRegistryProgram } from '../support/servers/registry-server.js';
import { convertInto } from './support/convert-into.js';
import { createEndpoints, type Endpoint, type Endpoints } from './support/endpoints.js';
import { makeRaw, MIB, qemuImg, useDirectory } from './support/images.js';
import { useLoopDevices } from './support/loop-device.js';
import { COMPRESSIONS, FORMATS, known, rows, type Row } from './support/matrix.js';
import { refusal } from './support/refused.js';

const DISK_BYTES = 5 * MIB + 512 * 3;
const DEVICE_BYTES = 8 * MIB;

/** What an unsupported row fails by. */
const REFUSALS: Readonly<Record<string, readonly [type: string, message: RegExp]>> = {
  kubevirt: ['UnsupportedFormat', /in a container disk only qcow2 and raw are supported, as they are$/],
  archive: ['ContentTypeNotSupported', /^contentType archive is not supported for source (registry|s3)/],
};

describe('support matrix', function () {
  this.timeout(120_000);
  useGoProgram();
  useRegistryProgram();
  const directory = useDirectory();
  const loops = useLoopDevices({ optional: true });
  let endpoints: Endpoints;
  const from = { raw: '', tree: '' };
  let states = 0;
  before(() => {
    endpoints = createEndpoints();
    from.raw = makeRaw(`${directory()}/disk.raw`, DISK_BYTES);
    mkdirSync((from.tree = `${directory()}/tree/sub`), { recursive: true });
    execFileSync('sh', [
      '-c',
      `echo hello > '${from.tree}/file'; cp '${from.raw}' '${directory()}/tree/disk'`,
    ]);
    from.tree = `${directory()}/tree`;
  });
  after(() => endpoints[Symbol.asyncDispose]());

  interface Case {
    readonly endpoint: Endpoint;
    readonly contentType: ContentType;
    /** The file without its compression, and what is served. */
    readonly plain: string;
    readonly open: () => Promise<ImageSource>;
    /** Where nothing is yet. */
    readonly target: string;
  }

  async function prepare(row: Row, index: number): Promise<Case> {
    const endpoint = known(endpoints.byName, row, 'endpoint');
    const contentType = known({ kubevirt: 'kubevirt', archive: 'archive' } as const, row, 'content_type');
    const plain = `${directory()}/row-${index}.${row['format']}`;
    known(FORMATS, row, 'format')(from, plain);
    const open = await endpoint.offer(known(COMPRESSIONS, row, 'compression')(plain));
    return { endpoint, contentType, plain, open, target: `${directory()}/row-${index}.target` };
  }

  /** The chain as the engine goes through it, without scratch space. */
  async function run({ endpoint, contentType, open }: Case, target: string): Promise<TransferResult> {
    assertContentType(endpoint.kind, contentType);
    const source = await open();
    states += 1;
    const state = `${directory()}/state-${states}`;
    if (contentType === 'kubevirt') return await convertInto(source, target, { state });
    try {
      await using opened = await openLocalDirectory(target);
      mkdirSync(state);
      return await unpackImage({
        source,
        directory: opened.handle,
        size: { claimName: target, usableBytes: 64 * MIB },
        records: createRecordStore(state),
        fence: 1,
        attempt: 1,
        signal: new AbortController().signal,
      });
    } finally {
      source.close();
    }
  }

  async function assertWithoutScratch({ contentType, open }: Case): Promise<void> {
    const source = await open();
    const { facts } = await planImage(source, { contentType, scratch: true });
    source.close();
    assert.equal(facts.scratch, undefined, facts.reason);
  }

  async function supported(tried: Case, row: Row): Promise<void> {
    await assertWithoutScratch(tried);
    const result = await run(tried, tried.target);
    assert.equal(result.scratchBytes, undefined);
    if (tried.contentType === 'archive')
      execFileSync('diff', ['--recursive', '--no-dereference', from.tree, tried.target]);
    else assertSame(tried.target, tried.plain, row);
    if (!loops.available) return;
    const device = loops.make(`${tried.target}.backing`, DEVICE_BYTES);
    const onDevice = run(tried, device);
    const message =
      /^contentType archive needs a directory to unpack into, \/dev\/loop\d+ is a block device$/;
    if (known({ true: true, false: false }, row, 'block_dv')) {
      await onDevice;
      assertSame(device, tried.plain, row);
    } else await assert.rejects(onDevice, refusal('ContentTypeNotSupported', message));
  }

  function assertSame(disk: string, plain: string, row: Row): void {
    assert.match(qemuImg('compare', '-f', 'raw', '-F', row['format'] ?? '', disk, plain), /identical/);
  }

  async function unsupported(tried: Case): Promise<void> {
    const [type, message] = REFUSALS[tried.contentType]!;
    await assert.rejects(run(tried, tried.target), refusal(type, message));
    assert.ok(!existsSync(tried.target) || isEmpty(tried.target), 'nothing was allocated');
  }

  const isEmpty = (path: string): boolean =>
    statSync(path).isDirectory() ? readdirSync(path).length === 0 : statSync(path).blocks === 0;

  for (const [index, row] of rows().entries()) {
    const { content_type: content, endpoint, format, compression, supported: expected } = row;
    const packed = compression === 'none' ? format : `${format} in ${compression}`;
    // CDI's own upload server takes archives, and virtctl sends them (`--archive-path`)
    const beyond = content === 'archive' && endpoint === 'upload';
    const works = beyond ? 'works, beyond the documents' : expected === 'true' ? 'works' : 'is refused';
    const blind = expected === 'true' && !loops.available ? ' (block device not tried: needs root)' : '';
    it(`${content}, ${endpoint}, ${packed}: ${works}${blind}`, async () => {
      const tried = await prepare(row, index);
      if (beyond || known({ true: true, false: false }, row, 'supported')) await supported(tried, row);
      else await unsupported(tried);
    });
  }
});
