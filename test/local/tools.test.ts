import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { builtPath, ensureBuilt, kubernetesVersion } from '../../local/build.js';
import { buildOnce } from '../../local/go.js';
import { findProgram, findTools } from '../../local/tools.js';

describe('the tools of the local stack', () => {
  const saved = { PATH: process.env['PATH'], XDG_CACHE_HOME: process.env['XDG_CACHE_HOME'] };
  let directory: string;
  let path: string;

  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'dvflow-tools-'));
    path = join(directory, 'bin');
    mkdirSync(path);
    process.env['XDG_CACHE_HOME'] = join(directory, 'cache');
  });
  afterEach(() => {
    Object.assign(process.env, saved);
    if (saved.XDG_CACHE_HOME === undefined) delete process.env['XDG_CACHE_HOME'];
    rmSync(directory, { recursive: true });
  });

  const program = (name: string, version: string): string => {
    const file = join(path, name);
    writeFileSync(file, `#!/bin/sh\necho '${version}'\n`);
    chmodSync(file, 0o755);
    return file;
  };
  const built = (name: 'dvflow-control-plane' | 'temporal'): string => {
    const file = builtPath(name);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, '');
    return file;
  };
  const find = async (): ReturnType<typeof findTools> =>
    await findTools({ kubernetes: true, temporal: true }, () => undefined, { PATH: path });

  it('are those on PATH where they are new enough', async () => {
    const controlPlane = built('dvflow-control-plane');
    const names = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'] as const;
    for (const name of names) program(name, 'Kubernetes v1.34.2');
    const temporal = program('temporal', 'temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)');
    program('etcd', 'etcd Version: 3.4.23');
    program('kubectl', 'Client Version: v1.20.4');
    const tools = await find();
    for (const name of names) assert.deepEqual(tools[name], [join(path, name)]);
    assert.deepEqual(tools.temporal, [temporal]);
    assert.deepEqual(tools.etcd, [controlPlane, 'etcd']);
    assert.deepEqual(tools.kubectl, [controlPlane, 'kubectl']);
  });

  it('are the built ones for all of Kubernetes unless its programs on PATH are of one version', async () => {
    const controlPlane = built('dvflow-control-plane');
    const temporal = built('temporal');
    program('kube-apiserver', 'Kubernetes v1.33.1');
    program('kube-controller-manager', 'Kubernetes v1.34.2');
    program('kube-scheduler', 'Kubernetes v1.34.2');
    const tools = await find();
    assert.deepEqual(tools['kube-apiserver'], [controlPlane, 'kube-apiserver']);
    assert.deepEqual(tools['kube-controller-manager'], [controlPlane, 'kube-controller-manager']);
    assert.deepEqual(tools.temporal, [temporal]);
  });

  it('have a kubelet only for real nodes: one of the API server’s own version', async () => {
    const controlPlane = built('dvflow-control-plane');
    const temporal = program('temporal', 'temporal version 1.5.1');
    const withNodes = async (): Promise<readonly string[]> =>
      (await findTools({ kubernetes: true, temporal: true, nodes: true }, () => undefined, { PATH: path }))
        .kubelet;
    assert.deepEqual((await find()).kubelet, []);
    program('kubelet', 'Kubernetes v1.34.2');
    assert.deepEqual(await withNodes(), [controlPlane, 'kubelet']);
    const names = ['kube-apiserver', 'kube-controller-manager', 'kube-scheduler'] as const;
    for (const name of names) program(name, 'Kubernetes v1.34.2');
    assert.deepEqual(await withNodes(), [join(path, 'kubelet')]);
    program('kubelet', 'Kubernetes v1.33.7');
    assert.deepEqual(await withNodes(), [controlPlane, 'kubelet']);
    assert.equal((await find()).temporal[0], temporal);
  });

  it('are not looked for where somebody else’s are used', async () => {
    program('kubectl', 'Client Version: v1.34.0');
    const tools = await findTools({ kubernetes: false, temporal: false }, () => undefined, { PATH: path });
    assert.deepEqual(tools['kube-apiserver'], []);
    assert.deepEqual(tools.temporal, []);
    assert.deepEqual(tools.kubectl, [join(path, 'kubectl')]);
  });

  it('count as new when they were built without a version, and as absent when they fail', () => {
    program('temporal', 'temporal version 0.0.0-DEV (Server 1.29.1, UI 2.42.1)');
    assert.equal(findProgram('temporal', { PATH: path })?.path, join(path, 'temporal'));
    writeFileSync(join(path, 'temporal'), '#!/bin/sh\necho temporal version 1.5.1\nexit 3\n');
    assert.equal(findProgram('temporal', { PATH: path }), undefined);
  });

  it('need Go when they have to be built, and say which', async () => {
    process.env['PATH'] = path;
    await assert.rejects(
      ensureBuilt('temporal', () => undefined),
      /temporal has to be built once and needs Go 1\.21 or later; there is none on PATH/,
    );
    program('go', 'go version go1.19.8 linux/amd64');
    process.env['PATH'] = `${path}:/bin:/usr/bin`;
    await assert.rejects(
      ensureBuilt('dvflow-control-plane', () => undefined),
      /PATH has 1\.19\. Install it/,
    );
  });

  it('are built once, each without waiting for the others', async () => {
    program('go', 'go version go1.25.0 linux/amd64');
    process.env['PATH'] = `${path}:/bin:/usr/bin`;
    const [begun, allowed] = [Promise.withResolvers<void>(), Promise.withResolvers<void>()];
    let builds = 0;
    const build = (name: string, until: Promise<void>): Promise<string> =>
      buildOnce(
        {
          name,
          path: join(directory, name, name),
          description: name,
          async build(into) {
            builds += 1;
            begun.resolve();
            await until;
            writeFileSync(join(into, name), name);
          },
        },
        () => undefined,
      );
    const slow = build('slow', allowed.promise);
    await begun.promise;
    const again = build('slow', allowed.promise);
    assert.equal(readFileSync(await build('quick', Promise.resolve()), 'utf8'), 'quick');
    allowed.resolve();
    assert.equal(await again, await slow);
    assert.equal(builds, 2);
  });

  it('leave nothing that looks finished when the build fails', async () => {
    writeFileSync(
      join(path, 'go'),
      '#!/bin/sh\n[ "$1" = version ] && { echo go version go1.25.0 linux/amd64; exit; }\necho out of space >&2\nexit 1\n',
    );
    chmodSync(join(path, 'go'), 0o755);
    process.env['PATH'] = `${path}:/bin:/usr/bin`;
    await assert.rejects(
      ensureBuilt('dvflow-control-plane', () => undefined),
      /go build ended with 1:\nout of space/,
    );
    assert.equal(existsSync(builtPath('dvflow-control-plane')), false);
  });

  it('build the Kubernetes that go.mod names', () => {
    assert.match(kubernetesVersion(), /^v1\.\d+\.\d+$/);
  });
});
