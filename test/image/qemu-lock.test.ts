import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import { openLocalTarget } from '../../activities/image/target/local-target.js';
import { MIB, useDirectory } from './support/images.js';
import { refusal } from './support/refused.js';

describe('a target that QEMU has open', () => {
  const directory = useDirectory();

  it('is refused as long as it is, and left as it is', async () => {
    const target = `${directory()}/vm.img`;
    writeFileSync(target, Buffer.alloc(MIB, 'V'));
    const qemu = spawn('qemu-io', ['-f', 'raw', target], { stdio: ['pipe', 'pipe', 'inherit'] });
    try {
      // it answers when the image is open
      qemu.stdin.write('length\n');
      await once(qemu.stdout, 'data');
      const inUse = /vm\.img is in use by another program \(QEMU locks it\)$/;
      await assert.rejects(openLocalTarget(target), refusal('ResourceExists', inUse));
    } finally {
      qemu.stdin.end('quit\n');
      await once(qemu, 'close');
    }
    assert.deepEqual(readFileSync(target), Buffer.alloc(MIB, 'V'));
    await using opened = await openLocalTarget(target);
    assert.equal(opened.existed, true);
  });
});
