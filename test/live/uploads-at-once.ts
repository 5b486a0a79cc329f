import assert from 'node:assert/strict';
import { createReadStream, statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { request } from 'node:https';
import { processPid } from '../../local/index.js';
import { gatewayAuthority } from '../../local/gateway.js';
import { makeImages, type Images } from './images.js';
import { createWorld, type World } from './world.js';
import { useStack } from '../support/stack.js';

describe('uploads at once', function () {
  this.timeout(600_000);
  const stack = useStack();
  let world: World;
  let images: Images;
  let namespace: string;

  before(async () => {
    world = createWorld(stack);
    images = await makeImages({ sizeMiB: 512, dataMiB: 384 });
    namespace = await world.createNamespace('at-once');
  });
  after(() => images.remove());

  it('the gateway keeps within 192 MiB with eight uploads at once', async () => {
    const names = Array.from({ length: 8 }, (_, index) => `at-once-${index}`);
    const answers = names.map(async (name) => {
      await stack.kubectl(['create', '-f', '-'], { input: JSON.stringify(dataVolume(name)) });
      await world.awaitPhase(namespace, name, 'UploadReady', 60_000);
      return await post(images.raw, await token(name));
    });
    for (const status of await Promise.all(answers)) assert.equal(status, 200);
    const pid = processPid(stack.info, 'worker-gateway') ?? 0;
    const text = await readFile(`/proc/${pid}/status`, 'utf8');
    const peakKiB = Number(/^VmHWM:\s+(\d+) kB$/m.exec(text)?.[1]);
    console.log(`      peak of the gateway ${Math.round(peakKiB / 1024)} MiB`);
    assert.ok(peakKiB < 192 * 1024, `${peakKiB} KiB`);
    for (const name of names) {
      await world.awaitPhase(namespace, name, 'Succeeded', 60_000);
      await world.remove(namespace, name);
    }
  });

  function dataVolume(name: string): object {
    return {
      apiVersion: 'cdi.kubevirt.io/v1beta1',
      kind: 'DataVolume',
      metadata: { name, namespace, annotations: { 'cdi.kubevirt.io/storage.bind.immediate.requested': '' } },
      spec: { source: { upload: {} }, storage: { resources: { requests: { storage: '520Mi' } } } },
    };
  }

  async function token(name: string): Promise<string> {
    const input = JSON.stringify({
      apiVersion: 'upload.cdi.kubevirt.io/v1beta1',
      kind: 'UploadTokenRequest',
      metadata: { name, namespace },
      spec: { pvcName: name },
    });
    return await stack.kubectl(['create', '-f', '-', '-o', 'jsonpath={.status.token}'], { input });
  }

  async function post(file: string, bearer: string): Promise<number> {
    const { size } = statSync(file);
    return await new Promise((resolve, reject) => {
      const asked = request(
        {
          host: '127.0.0.1',
          port: stack.info.ports.gateway,
          path: '/v1beta1/upload',
          method: 'POST',
          ca: gatewayAuthority(stack.info.directory),
          agent: false,
          headers: { authorization: `Bearer ${bearer}`, 'content-length': size },
        },
        (response) => {
          response.resume();
          resolve(response.statusCode ?? 0);
        },
      );
      asked.on('error', reject);
      createReadStream(file).pipe(asked);
    });
  }
});
