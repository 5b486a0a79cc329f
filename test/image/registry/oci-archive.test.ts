import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import {
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { collect, fails } from '../source/open.js';
import { digestOf, imageOf, indexOf, layerOf, writeLayout, type Image, type Layer } from './images.js';
import { assertDelivers, DISK, useBench } from './open.js';

const run = promisify(execFile);
const skopeo = async (...args: string[]) => await run('skopeo', ['--insecure-policy', ...args]);

describe('images in OCI archives', () => {
  const bench = useBench();
  const policy = { allowed: [], denied: [], unrestricted: true };
  let directory: string;
  let layer: Layer;
  before(async () => {
    layer = await layerOf([
      { name: 'disk/', type: 'directory' },
      { name: 'disk/disk.img', content: DISK },
    ]);
  });
  beforeEach(() => (directory = mkdtempSync(join(tmpdir(), 'dvflow-archive-'))));
  afterEach(() => rmSync(directory, { recursive: true }));

  const archive = (): string => join(directory, 'image.tar');
  const open = async (url: string, request = {}) => (await bench.open(url, request, { policy })).source;

  function layout(image: Image, name = 'v1'): string {
    const path = join(directory, 'layout');
    writeLayout(path, image, name);
    return path;
  }

  /** An archive by GNU tar, with these flags. */
  async function packed(path: string, ...flags: string[]): Promise<string> {
    await run('tar', ['-C', path, ...flags, '-cf', archive(), '.']);
    return `oci-archive:${archive()}`;
  }

  for (const name of ['v1', ''])
    it(`that skopeo wrote are delivered byte for byte, ${name ? 'by name' : 'the only one'}`, async () => {
      const image = imageOf([layer], { env: ['KUBEVIRT_IO_A=b'] });
      await skopeo('copy', '-q', `oci:${layout(image)}:v1`, `oci-archive:${archive()}${name && `:${name}`}`);
      const source = await open(`oci-archive:${archive()}${name && `:${name}`}`);
      await assertDelivers(source);
      assert.deepEqual(await source.labels(), { 'kubevirt.io/a': 'b' });
      const { validators, displayUrl } = await source.probe();
      assert.equal(validators.etag, `"${digestOf(layer.blob)}"`);
      assert.equal(displayUrl, `oci-archive:${archive()}${name && `:${name}`}`);
    });

  for (const format of ['ustar', 'gnu', 'pax'])
    it(`are read from archives of GNU tar (${format})`, async () => {
      await assertDelivers(await open(await packed(layout(imageOf([layer])), `--format=${format}`)));
    });

  for (const flag of ['--gzip', '--xz', '--zstd'])
    it(`are read from compressed archives (${flag})`, async () => {
      await assertDelivers(await open(await packed(layout(imageOf([layer])), flag)));
    });

  it('are found behind more blobs than the headers of other archives may be read for', async () => {
    const path = layout(imageOf([layer]));
    // longer than what is read at once, so that each header takes a read of its own
    for (let index = 0; index < 1100; index += 1) {
      const blob = join(path, 'blobs', 'sha256', `${index}`.padStart(64, '0'));
      writeFileSync(blob, '');
      truncateSync(blob, 66_000);
    }
    await assertDelivers(await open(await packed(path)));
  });

  it('are chosen by architecture', async () => {
    const other = imageOf([await layerOf([{ name: 'disk/a', content: 'another' }])], {
      architecture: 'arm64',
    });
    const url = await packed(layout(indexOf([imageOf([layer]), other])));
    await assertDelivers(await open(url, { architecture: 'amd64' }));
    await assertDelivers(await open(url, { architecture: 'arm64' }), Buffer.from('another'));
    await fails(
      (await open(url, { architecture: 's390x' })).probe(),
      'SourceNotFound',
      /linux\/amd64, linux\/arm64$/u,
    );
  });

  it('are chosen by name, and must be named where there are several', async () => {
    const path = layout(imageOf([layer]), 'quay.example/a:v1');
    const index = JSON.parse(readFileSync(join(path, 'index.json'), 'utf8')) as { manifests: object[] };
    const annotations = { 'org.opencontainers.image.ref.name': 'other' };
    index.manifests.push({ ...index.manifests[0], annotations, digest: `sha256:${'0'.repeat(64)}` });
    writeFileSync(join(path, 'index.json'), JSON.stringify(index));
    const url = await packed(path);
    await assertDelivers(await open(`${url}:quay.example/a:v1`));
    await fails((await open(url)).probe(), 'InvalidDataVolume', /holds 2 images: name one/u);
    await fails((await open(`${url}:v1`)).probe(), 'SourceNotFound', /none of 2 images has this name$/u);
    await fails((await open(`${url}:other`)).probe(), 'ImageInvalid', /it has no blobs\/sha256\/0+$/u);
  });

  it('whose layer is damaged are ChecksumMismatch', async () => {
    const path = layout(imageOf([layer]));
    const blob = join(path, 'blobs', digestOf(layer.blob).replace(':', '/'));
    const bytes = Buffer.from(layer.blob);
    bytes[bytes.length - 3]! ^= 1;
    writeFileSync(blob, bytes);
    const source = await open(await packed(path));
    await fails(
      collect(source.stream(0)),
      'ChecksumMismatch',
      new RegExp(`expected ${digestOf(layer.blob)}`, 'u'),
    );
  });

  for (const flags of [[], ['--gzip']])
    it(`whose layer is a link out of the archive do not have it ${flags.join('')}`, async () => {
      const path = layout(imageOf([layer]));
      const blob = join(path, 'blobs', digestOf(layer.blob).replace(':', '/'));
      writeFileSync(join(directory, 'elsewhere'), layer.blob);
      unlinkSync(blob);
      symlinkSync(join(directory, 'elsewhere'), blob);
      const source = await open(await packed(path, ...flags));
      await fails(source.probe(), 'ImageInvalid', /is no complete OCI archive: it has no blobs\/sha256/u);
    });

  it('are not what is no OCI layout, no tar, or nothing', async () => {
    mkdirSync(join(directory, 'other'));
    writeFileSync(join(directory, 'other', 'manifest.json'), '[]');
    await fails(
      (await open(await packed(join(directory, 'other')))).probe(),
      'ImageInvalid',
      /has no oci-layout$/u,
    );
    writeFileSync(archive(), DISK.subarray(600));
    await fails((await open(`oci-archive:${archive()}`)).probe(), 'ImageInvalid', /tar/u);
    writeFileSync(archive(), '');
    await fails((await open(`oci-archive:${archive()}`)).probe(), 'ImageInvalid', /tar archive is empty/u);
    await fails(open(`oci-archive:${join(directory, 'nothing')}`), 'SourceNotFound', /does not exist$/u);
  });

  it('cut short are ImageInvalid', async () => {
    const url = await packed(layout(imageOf([layer])));
    const bytes = readFileSync(archive());
    writeFileSync(archive(), bytes.subarray(0, bytes.length - layer.blob.length));
    await fails((await open(url)).probe(), 'ImageInvalid', /cut short|has no/u);
  });

  it('are read by the command line alone', async () => {
    const url = await packed(layout(imageOf([layer])));
    await fails(bench.open(url), 'UnsupportedSource', /only the command line reads those$/u);
  });
});
