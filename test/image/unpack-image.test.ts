import assert from 'node:assert/strict';
import { mkdirSync, utimesSync, writeFileSync } from 'node:fs';
import { createRecordStore } from '../../activities/image/resume-record.js';
import { createFileSource } from '../../activities/image/source/file-source.js';
import { openLocalDirectory } from '../../activities/image/target/local-target.js';
import { unpackImage } from '../../activities/image/unpack-image.js';
import { tarArchive, tarEntry } from './archive/tar.js';
import { MIB, useDirectory } from './support/images.js';
import { refusal } from './support/refused.js';

describe('unpackImage', () => {
  const directory = useDirectory();

  it('does not take for whole what a local archive held while it was written to', async () => {
    const path = `${directory()}/files.tar`;
    writeFileSync(path, tarArchive(tarEntry({ name: 'file' }, 'x'.repeat(3 * MIB))));
    const state = `${directory()}/state`;
    mkdirSync(state);
    const { signal } = new AbortController();
    const source = createFileSource({ path }, { signal });
    async function* written(start: number): AsyncGenerator<Buffer> {
      for await (const piece of source.stream(start)) {
        yield piece;
        utimesSync(path, 1, 1);
      }
    }
    await using target = await openLocalDirectory(`${directory()}/target`);
    const unpacking = unpackImage({
      source: { ...source, stream: written },
      directory: target.handle,
      size: { claimName: 'team-a/files', usableBytes: 16 * MIB },
      records: createRecordStore(state),
      fence: 1,
      attempt: 1,
      signal,
    });
    await assert.rejects(unpacking, refusal('SourceChanged', /written to while it was read/, false));
    source.close();
  });
});
