import assert from 'node:assert/strict';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { ApplicationFailure } from '@temporalio/common';
import { openSource } from '../../activities/image/source/open-source.js';
import {
  bufferContent,
  createAuthority,
  startContentServer,
  startRedirectServer,
  type RunningServer,
} from '../support/servers/index.js';
import { ARCHIVE_TRICKS, BOMB_TRICKS, IMAGE_TRICKS } from './hostile/files.js';
import { ADDRESS_TRICKS } from './hostile/addresses.js';
import { ANSWER_TRICKS, TLS_TRICKS } from './hostile/answers.js';
import type { Address, Props, Trick } from './hostile/trick.js';
import { convertInto } from './support/convert-into.js';
import { makeRaw, MIB, qemuImg, useDirectory } from './support/images.js';

const CLAIM_BYTES = 8 * MIB;
const TRICKS: readonly Trick[] = [
  ...IMAGE_TRICKS,
  ...BOMB_TRICKS,
  ...ARCHIVE_TRICKS,
  ...ADDRESS_TRICKS,
  ...ANSWER_TRICKS,
  ...TLS_TRICKS,
];
/** What no message may show. */
const SECRET = /shadow|meta-data|hunter2/u;

describe('the hostile set, as a worker meets it', function () {
  // no trick keeps anybody for long
  this.timeout(30_000);
  const directory = useDirectory();
  const ends: (() => unknown)[] = [];
  let images: Record<'honest' | 'compressed', Buffer>;
  let count = 0;

  before(() => {
    const raw = makeRaw(`${directory()}/disk.raw`, CLAIM_BYTES);
    const made = (name: string, ...options: string[]): Buffer => {
      const path = `${directory()}/${name}.qcow2`;
      qemuImg('convert', '-f', 'raw', '-O', 'qcow2', ...options, raw, path);
      return readFileSync(path);
    };
    images = { honest: made('honest'), compressed: made('compressed', '-c') };
  });
  afterEach(async () => {
    for (const end of ends.splice(0)) await end();
  });

  async function serve<S extends RunningServer>(starting: Promise<S>): Promise<S> {
    const server = await starting;
    ends.push(() => server.close());
    return server;
  }
  const props = (): Props => ({
    honest: Buffer.from(images.honest),
    compressed: Buffer.from(images.compressed),
    directory: directory(),
    serve,
    undo: (end) => void ends.push(end),
    offer: async (bytes, ranges) => (await serve(startContentServer(bufferContent(bytes), { ranges }))).url,
  });

  async function convert(address: Address, { options = {}, checksum }: Partial<Trick> = {}) {
    const target = `${directory()}/target-${(count += 1)}`;
    const source = await openSource(
      { kind: 'http', headers: [], secretHeaders: [], insecureSkipVerify: false, ...address },
      {
        policy: { allowed: ['127.0.0.1/32'], denied: [] },
        signal: new AbortController().signal,
        backoffMs: 1,
        ...options,
      },
    );
    const outcome: unknown = await convertInto(source, target, {
      usableBytes: CLAIM_BYTES,
      ...(checksum === undefined ? {} : { checksum }),
    }).catch((reason: unknown) => reason);
    const allocated = existsSync(target) ? statSync(target).blocks * 512 : 0;
    return { outcome, allocated, bytesRead: source.bytesRead };
  }

  for (const trick of TRICKS)
    for (const ranges of trick.once ? [true] : [true, false])
      it(`refuses ${trick.name}${trick.once ? '' : ranges ? ', by ranges' : ', in a stream'}`, async () => {
        const address = await trick.play(props(), ranges);
        const { outcome: error, allocated, bytesRead } = await convert(address, trick);
        assert.ok(error instanceof ApplicationFailure, String((error as Error | undefined)?.stack));
        const { type, nonRetryable, message } = error;
        assert.deepEqual([type, nonRetryable], [trick.type, trick.permanent ?? true], message);
        assert.match(message, trick.message);
        assert.doesNotMatch(message.replace(address.url, ''), SECRET);
        assert.ok(bytesRead <= (trick.mostRead ?? 2 * MIB), `${bytesRead} bytes read`);
        assert.ok(allocated <= (trick.late ? CLAIM_BYTES : 0), `${allocated} bytes allocated`);
        trick.afterwards?.();
      });

  it('lets https redirect down to http for who asks for no proof, without a credential', async () => {
    const target = await serve(startContentServer(bufferContent(images.honest)));
    const authority = await createAuthority();
    const tls = await authority.issue(['localhost']);
    const origin = await serve(startRedirectServer(() => `${target.url}/disk`, { tls }));
    const login = { username: 'me', password: 'hunter2' };
    const { outcome } = await convert({ url: origin.url, insecureSkipVerify: true, ...login });
    assert.equal((outcome as { diskBytes?: number }).diskBytes, CLAIM_BYTES);
    assert.ok(origin.requests().every(({ headers }) => headers.authorization !== undefined));
    assert.ok(target.requests().length > 0);
    assert.ok(target.requests().every(({ headers }) => headers.authorization === undefined));
  });
});
