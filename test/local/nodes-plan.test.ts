import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdtempSync, rmSync } from 'node:fs';
import { networkInterfaces, tmpdir } from 'node:os';
import { join } from 'node:path';
import { machinePath } from '../../local/index.js';
import { planNodes } from '../../local/nodes/plan.js';

const MAIN = new URL('../../lib/cli/bundled/main.js', import.meta.url).pathname;

describe('the plan of real nodes', () => {
  it('gives each a name, a directory, a bridge, a cgroup and a network of its own', () => {
    const nodes = planNodes('/stack', 9);
    assert.deepEqual(
      nodes.map(({ name }) => name),
      ['node01', 'node02', 'node03', 'node04', 'node05', 'node06', 'node07', 'node08', 'node09'],
    );
    for (const key of ['directory', 'pool', 'bridge', 'address', 'cgroup'] as const) {
      assert.equal(new Set(nodes.map((node) => node[key])).size, 9, key);
    }
    const taken = new Set(
      Object.values(networkInterfaces()).flatMap((all) => (all ?? []).map((one) => one.address)),
    );
    for (const { bridge, address, prefix } of nodes) {
      assert.ok(bridge.length <= 15, bridge); // IFNAMSIZ of Linux, less the final zero
      assert.match(address, /^100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.\d+\.1$/);
      assert.equal(prefix, 24);
      assert.ok(!taken.has(address));
    }
    assert.notEqual(planNodes('/other', 1)[0]!.bridge, nodes[0]!.bridge);
  });

  it('refuses a count that no machine carries', () => {
    for (const count of [-1, 1.5, 10, Number.NaN]) assert.throws(() => planNodes('/stack', count), /0 to 9/);
    assert.deepEqual(planNodes('/stack', 0), []);
  });

  it('knows where on this machine a path of a node is', () => {
    const info = { nodes: planNodes('/stack', 2), pool: '/stack/pool' };
    assert.equal(
      machinePath(info, 'node02', '/stack/pool/pvc-1/disk.img'),
      '/stack/nodes/node02/pool/pvc-1/disk.img',
    );
    assert.equal(machinePath(info, 'node02', '/stack/pool'), '/stack/nodes/node02/pool');
    assert.equal(machinePath(info, 'node02', '/stack/pools/x'), '/stack/pools/x');
    assert.equal(machinePath({ ...info, nodes: [] }, 'laptop', '/stack/pool/x'), '/stack/pool/x');
  });
});

describe('a machine that cannot have real nodes', function () {
  this.timeout(30_000);
  let directory: string;

  before(function () {
    if (process.getuid?.() !== 0) this.skip();
    directory = mkdtempSync(join(tmpdir(), 'dvflow-test-'));
    chmodSync(directory, 0o755);
  });
  after(() => rmSync(directory, { recursive: true, force: true }));

  it('is told that root is missing', () => {
    const env = { ...process.env, DVFLOW_LOCAL_DIR: join(directory, 'stack') };
    const args = ['--reuid=65534', '--regid=65534', '--clear-groups', process.execPath, MAIN];
    const { status, stderr } = spawnSync('setpriv', [...args, 'local', 'up', '--nodes', '1'], {
      encoding: 'utf8',
      env,
    });
    assert.notEqual(status, 0);
    assert.match(stderr, /real nodes .* need root: run the command as root, or without --nodes/);
    assert.equal(existsSync(env.DVFLOW_LOCAL_DIR), false);
  });

  it('is told which packages are missing, and nothing is made', () => {
    const env = { PATH: '/usr/sbin', HOME: directory, DVFLOW_LOCAL_DIR: join(directory, 'stack') };
    const { status, stderr } = spawnSync(
      process.execPath,
      [MAIN, 'local', 'up', '--nodes=2', '--ports=free'],
      {
        encoding: 'utf8',
        env,
      },
    );
    assert.notEqual(status, 0);
    assert.match(stderr, /apt-get install -y --no-install-recommends .*containerd.*busybox-static/);
    assert.equal(existsSync(env.DVFLOW_LOCAL_DIR), false);
  });
});
