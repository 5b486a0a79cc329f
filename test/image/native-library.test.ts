import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { SOURCE_LOADER } from '../support/source-loader.js';
import { useDirectory } from './support/images.js';

const DECODER = fileURLToPath(new URL('../../activities/image/decode/cluster-decoder.ts', import.meta.url));
const PROGRAM = `
  import { zstdCompressSync } from 'node:zlib';
  import { createClusterDecoder } from ${JSON.stringify(DECODER)};
  const plain = Buffer.alloc(65_536, 'decoded by the library');
  const output = Buffer.alloc(plain.length);
  const outcome = createClusterDecoder('zstd')(zstdCompressSync(plain), output);
  if (outcome !== 'ok' || !output.equals(plain)) throw new Error(outcome);
`;

describe("the distribution's libraries", function () {
  this.timeout(60_000);
  const directory = useDirectory();

  it('call their own code, and not the zstd that Node has and exports under the same names', () => {
    execFileSync(process.execPath, [...SOURCE_LOADER, '--input-type=module', '--eval', PROGRAM], {
      env: { ...process.env, LD_DEBUG: 'bindings', LD_DEBUG_OUTPUT: `${directory()}/bindings` },
    });
    const bindings = readdirSync(directory())
      .flatMap((name) => readFileSync(`${directory()}/${name}`, 'utf8').split('\n'))
      .filter((line) => /binding file \S*libzstd\.so\.1 .* symbol `ZSTD_/.test(line));
    assert.ok(bindings.length > 0, 'the dynamic linker names no call within libzstd');
    assert.deepEqual(
      bindings.filter((line) => !/ to \S*libzstd\.so\.1 /.test(line)),
      [],
    );
  });
});
