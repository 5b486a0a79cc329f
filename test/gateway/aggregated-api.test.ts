import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { request } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { decodeJwt } from 'jose';
import { certificatePaths } from '../../local/certificates.js';
import { gatewayRegistration } from '../../local/gateway.js';
import { runKubectl } from '../../local/kubectl.js';
import { layout } from '../../local/paths.js';
import { TLS_FILES } from '../../activities/data-port/tls.js';
import { createKubernetes } from '../../activities/kubernetes/client.js';
import { writeAuthority } from '../../workers/control/api-services.js';
import { startGateway, type Gateway } from '../../workers/gateway/index.js';
import { ensureCertificateDirectory, peerDirectory } from '../../workers/pki/directory.js';
import { projectPath } from '../docs/documents.js';
import { useControlPlane } from '../kubernetes/support/control-plane.js';
import { eventually } from '../live/world.js';
import { freePort } from '../support/free-port.js';
import { SOURCE_LOADER } from '../support/source-loader.js';

const QUIET = {
  log: () => undefined,
  trace: () => undefined,
  debug: () => undefined,
  info: () => undefined,
  warn: () => undefined,
  error: () => undefined,
};

/** A request for a token, as people write it. */
function tokenRequest(pvcName: unknown, version = 'v1beta1', metadata: object = { name: 'ask' }): string {
  return JSON.stringify({
    apiVersion: `upload.cdi.kubevirt.io/${version}`,
    kind: 'UploadTokenRequest',
    metadata,
    spec: { pvcName },
  });
}

describe('the API upload.cdi.kubevirt.io behind a real kube-apiserver', function () {
  this.timeout(60_000);
  const plane = useControlPlane();
  let gateway: Gateway;
  let port: number;
  let tlsDirectory: string;
  let claimUid: string;
  const namespace = 'uploads';

  before(async function () {
    this.timeout(120_000);
    const { info, temporal, configFor, kubectl } = plane();
    port = await freePort();
    const certificates = layout(info.directory).dataPortPki;
    await ensureCertificateDirectory(certificates);
    tlsDirectory = peerDirectory(certificates, 'dvflow-gateway');
    gateway = startGateway({
      kubeConfig: await configFor('dvflow', 'dvflow-gateway'),
      client: temporal,
      logger: QUIET,
      address: { host: '127.0.0.1', port },
      tlsDirectory,
      uploadSlots: 4,
    });
    while (!gateway.ready()) await pause(50);
    await apply(gatewayRegistration(info.directory, { ...info.ports, gateway: port }));
    await awaitApis();
    await kubectl('create', 'namespace', namespace);
    await apply(
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'PersistentVolumeClaim',
        metadata: { name: 'disk', namespace },
        spec: {
          accessModes: ['ReadWriteOnce'],
          storageClassName: 'none',
          resources: { requests: { storage: '64Mi' } },
        },
      }),
    );
    claimUid = await kubectl('get', 'pvc', 'disk', '-n', namespace, '-o', 'jsonpath={.metadata.uid}');
  });
  after(async () => {
    const { kubectl } = plane();
    // an API that is registered and does not answer keeps namespaces from going
    await kubectl('delete', ...APIS);
    await gateway.stop();
    await kubectl('delete', 'namespace', namespace, '--wait=false');
  });

  const VERSIONS = ['v1beta1', 'v1alpha1'];
  const APIS = VERSIONS.map((version) => `apiservice/${version}.upload.cdi.kubevirt.io`);

  async function apply(input: string): Promise<void> {
    await runKubectl(plane().info.kubectl, ['apply', '--server-side', '-f', '-'], { input });
  }

  /** Creates a request with kubectl, as somebody. */
  async function create(input: string, ...args: string[]): Promise<string> {
    const { info } = plane();
    return await runKubectl(info.kubectl, ['create', '-n', namespace, '-f', '-', ...args], { input });
  }

  /** Waits until kube-apiserver asks the gateway, and names its kinds to who asks for them, which comes later. */
  async function awaitApis(): Promise<void> {
    const { kubectl } = plane();
    await kubectl('wait', '--for=condition=Available', '--timeout=60s', ...APIS);
    await eventually('uploadtokenrequests among the resources', 60_000, async () => {
      const list = await kubectl('api-resources', '--api-group=upload.cdi.kubevirt.io').catch(() => '');
      return list.includes('uploadtokenrequests') ? true : undefined;
    });
    // that list has the preferred version only; a client's dry run asks for nothing but the kind
    for (const version of VERSIONS)
      await eventually(`UploadTokenRequests of ${version}`, 60_000, async () =>
        create(tokenRequest('disk', version), '--dry-run=client', '--validate=ignore').catch(() => undefined),
      );
  }

  for (const version of VERSIONS) {
    it(`hands out a token for a claim (${version}), in the version that was asked`, async () => {
      const made = JSON.parse(await create(tokenRequest('disk', version), '-o', 'json')) as {
        apiVersion: string;
        metadata: { name: string };
        spec: object;
        status: { token: string };
      };
      assert.equal(made.apiVersion, `upload.cdi.kubevirt.io/${version}`);
      assert.deepEqual(made.spec, { pvcName: 'disk' });
      assert.equal(made.metadata.name, 'ask');
      const { name, namespace: of, dvflow } = decodeJwt(made.status.token);
      assert.deepEqual([of, name], [namespace, 'disk']);
      assert.equal((dvflow as { claimUid: string }).claimUid, claimUid);
    });
  }

  it("by kubectl apply too, as CDI's documents have it, again and again: nothing is kept", async () => {
    const { info } = plane();
    for (let round = 0; round < 2; round += 1) {
      const token = await runKubectl(
        info.kubectl,
        ['apply', '-n', namespace, '-f', '-', '-o', 'jsonpath={.status.token}'],
        { input: tokenRequest('disk') },
      );
      assert.equal(decodeJwt(token)['name'], 'disk');
    }
  });

  it('is listed and explained like any other', async () => {
    const { kubectl } = plane();
    const list = await kubectl('api-resources', '--api-group=upload.cdi.kubevirt.io');
    assert.match(
      list,
      /uploadtokenrequests +utr,utrs +upload\.cdi\.kubevirt\.io\/v1beta1 +true +UploadTokenRequest/,
    );
    for (const path of ['/apis/upload.cdi.kubevirt.io', '/apis/upload.cdi.kubevirt.io/v1alpha1'])
      assert.match(await kubectl('get', '--raw', path), /upload\.cdi\.kubevirt\.io\/v1alpha1/);
    await assert.rejects(kubectl('get', 'utr', 'ask', '-n', namespace), /NotFound/);
  });

  it('refuses whoever has no right, and lets in an editor of the namespace', async () => {
    const { kubectl } = plane();
    // validated, by one who may not list CustomResourceDefinitions
    const asAlice = ['--as=alice', '--as-group=system:authenticated'];
    await assert.rejects(create(tokenRequest('disk'), ...asAlice), /Forbidden.*User "alice" cannot create/);
    await kubectl('create', 'rolebinding', 'alice', '--clusterrole=edit', '--user=alice', '-n', namespace);
    // aggregated into edit by the controller manager, a moment after its start
    let output = '';
    while (output === '') {
      output = await create(tokenRequest('disk'), ...asAlice, '-o', 'name').catch(() => '');
      await pause(100);
    }
    assert.equal(output.trim(), 'uploadtokenrequest.upload.cdi.kubevirt.io/ask');
    await assert.rejects(
      runKubectl(plane().info.kubectl, ['create', '-n', 'default', '-f', '-', ...asAlice], {
        input: tokenRequest('disk'),
      }),
      /Forbidden/,
    );
  });

  it('binds the token of a claim that is not there yet to its DataVolume, or to nothing', async () => {
    const { kubectl } = plane();
    await apply(
      JSON.stringify({
        apiVersion: 'cdi.kubevirt.io/v1beta1',
        kind: 'DataVolume',
        metadata: { name: 'later', namespace },
        spec: { source: { upload: {} }, storage: { resources: { requests: { storage: '64Mi' } } } },
      }),
    );
    const uid = await kubectl('get', 'dv', 'later', '-n', namespace, '-o', 'jsonpath={.metadata.uid}');
    const of = async (name: string): Promise<object> =>
      decodeJwt(await create(tokenRequest(name), '-o', 'jsonpath={.status.token}'))['dvflow'] as object;
    const { since: _, holder: __, ...later } = (await of('later')) as { since: number; holder: object };
    assert.deepEqual(later, { dataVolumeUid: uid });
    const { since: ___, holder, ...never } = (await of('never')) as { since: number; holder: object };
    assert.deepEqual(never, {});
    // whose right is asked for again when the token is renewed
    assert.deepEqual(Object.keys(holder).sort(), ['extra', 'groups', 'user']);
  });

  it('says what is wrong with a request', async () => {
    await assert.rejects(create(tokenRequest('')), /spec\.pvcName: Required value/);
    await assert.rejects(create(tokenRequest(5)), /spec\.pvcName/);
    const bad = await direct({ body: '{', as: 'root', groups: ['system:masters'] });
    assert.equal(bad.status, 400);
    assert.equal((JSON.parse(bad.text) as { reason: string }).reason, 'BadRequest');
    const kind = await direct({ body: '{"kind":"Pod"}', as: 'root', groups: ['system:masters'] });
    assert.equal(kind.status, 400);
    const elsewhere = tokenRequest('disk', 'v1beta1', { name: 'ask', namespace: 'other' });
    const other = await direct({ body: elsewhere, as: 'root', groups: ['system:masters'] });
    assert.equal(other.status, 400);
  });

  it('refuses a field that nobody knows, as kubectl asks it to, and takes it where nobody asks', async () => {
    const odd = tokenRequest('disk').replace('"pvcName"', '"pvcname":"disk","pvcName"');
    await assert.rejects(create(odd), /strict decoding error: unknown field "spec\.pvcname"/);
    assert.match(await create(odd, '--validate=ignore', '-o', 'name'), /ask/);
  });

  it('signs nothing for a dry run', async () => {
    const token = await create(tokenRequest('disk'), '--dry-run=server', '-o', 'jsonpath={.status.token}');
    assert.equal(token, '');
  });

  it('believes in users only from the front proxy, and asks for their rights itself', async () => {
    const claims = { as: 'root', groups: ['system:masters'] };
    const body = tokenRequest('disk');
    // no certificate; a cluster administrator's; one of dvflow's own authority
    assert.equal((await direct({ ...claims, body, certificate: undefined })).status, 401);
    assert.equal((await direct({ ...claims, body, certificate: 'admin' })).status, 401);
    assert.equal((await direct({ ...claims, body, certificate: 'dvflow' })).status, 401);
    // no user named
    assert.equal((await direct({ body, certificate: 'front-proxy' })).status, 401);
    // kube-apiserver has let it through, or somebody else has this certificate: the rights are asked for here
    const { status, text } = await direct({ body, as: 'mallory', groups: ['system:authenticated'] });
    assert.equal(status, 403);
    assert.match(text, /User \\"mallory\\" cannot create resource/);
    assert.equal((await direct({ ...claims, body })).status, 200);
    // a name of a group with a comma is one name
    const comma = await direct({ body, as: 'mallory', groups: ['x,system:masters'] });
    assert.equal(comma.status, 403);
  });

  it('is known to kube-apiserver by what the control role writes into its registration', async () => {
    const { control, kubectl } = plane();
    const kubernetes = createKubernetes(control);
    const ca = readFileSync(`${tlsDirectory}/${TLS_FILES.ca}`).toString('base64');
    // as deploy/ makes it, before and after the authority is there
    await apply(
      JSON.stringify({
        apiVersion: 'v1',
        kind: 'Secret',
        metadata: { name: 'dvflow-gateway-certificate', namespace: 'dvflow' },
      }),
    );
    assert.equal(await writeAuthority(kubernetes, QUIET), false);
    const [first = ''] = APIS;
    await kubectl('patch', first, '--type=json', '-p', '[{"op":"remove","path":"/spec/caBundle"}]');
    await kubectl(
      'patch',
      'secret',
      'dvflow-gateway-certificate',
      '-n',
      'dvflow',
      '-p',
      `{"data":{"ca.crt":"${ca}"}}`,
    );
    assert.equal(await writeAuthority(kubernetes, QUIET), true);
    assert.equal(await kubectl('get', first, '-o', 'jsonpath={.spec.caBundle}'), ca);
    await awaitApis();
  });

  it('keeps its keys in its Secret, which another gateway uses too', async () => {
    const { info, temporal, configFor, kubectl } = plane();
    const names = await kubectl(
      'get',
      'secret',
      'dvflow-upload-signing-keys',
      '-n',
      'dvflow',
      '-o',
      'jsonpath={.data}',
    );
    assert.deepEqual(Object.keys(JSON.parse(names) as object).sort(), ['current.pem', 'rotated-at']);
    const token = await create(tokenRequest('disk'), '-o', 'jsonpath={.status.token}');
    const second = startGateway({
      kubeConfig: await configFor('dvflow', 'dvflow-gateway'),
      client: temporal,
      logger: QUIET,
      address: { host: '127.0.0.1', port: 0 },
      tlsDirectory,
      uploadSlots: 4,
    });
    try {
      while (!second.ready()) await pause(50);
      // the claim is no target, which is found out after the token was believed
      const answer = await ask({
        port: second.port ?? 0,
        path: '/v1beta1/upload',
        headers: { authorization: `Bearer ${token}` },
      });
      assert.deepEqual([answer.status, answer.text], [503, 'PVC disk is not an upload target']);
    } finally {
      await second.stop();
    }
    assert.ok(info.directory);
  });

  it('is served by a gateway that has started while Temporal is away', async () => {
    const { configFor } = plane();
    const directory = await mkdtemp(join(tmpdir(), 'dvflow-gateway-'));
    const kubeconfig = join(directory, 'kubeconfig.yaml');
    await writeFile(kubeconfig, (await configFor('dvflow', 'dvflow-gateway')).exportConfig());
    const alone = await freePort();
    const env = {
      PATH: process.env['PATH'],
      KUBECONFIG: kubeconfig,
      TEMPORAL_ADDRESS: `127.0.0.1:${await freePort()}`,
      DVFLOW_GATEWAY_ADDRESS: `127.0.0.1:${alone}`,
      DVFLOW_TLS_DIRECTORY: tlsDirectory,
    };
    const args = [...SOURCE_LOADER, projectPath('cli/main.ts'), 'worker', 'gateway'];
    const child = spawn(process.execPath, args, { env, stdio: ['ignore', 'ignore', 'pipe'] });
    try {
      const token = await create(tokenRequest('disk'), '-o', 'jsonpath={.status.token}');
      const headers = { authorization: `Bearer ${token}` };
      const asked = () => ask({ port: alone, path: '/v1beta1/upload', headers }).catch(() => undefined);
      let answer = await asked();
      for (; !answer; answer = await asked()) await pause(100);
      assert.deepEqual([answer.status, answer.text], [503, 'PVC disk is not an upload target']);
      const ended = once(child, 'exit');
      child.kill('SIGTERM');
      assert.deepEqual(await ended, [0, null]);
    } finally {
      child.kill('SIGKILL');
      await rm(directory, { recursive: true });
    }
  });

  interface Direct {
    readonly body: string;
    readonly as?: string;
    readonly groups?: readonly string[];
    readonly certificate?: 'front-proxy' | 'admin' | 'dvflow' | undefined;
  }

  /** Past kube-apiserver, with the headers that it would set. */
  async function direct(options: Direct) {
    const { as, groups = [], body } = options;
    const certificate = 'certificate' in options ? options.certificate : 'front-proxy';
    const { pki } = layout(plane().info.directory);
    const paths = {
      'front-proxy': certificatePaths(pki, 'front-proxy'),
      admin: certificatePaths(pki, 'admin'),
      dvflow: { cert: `${tlsDirectory}/${TLS_FILES.cert}`, key: `${tlsDirectory}/${TLS_FILES.key}` },
    };
    const files = certificate === undefined ? undefined : paths[certificate];
    return await ask({
      port,
      path: `/apis/upload.cdi.kubevirt.io/v1beta1/namespaces/${namespace}/uploadtokenrequests`,
      headers: {
        'content-type': 'application/json',
        ...(as === undefined ? {} : { 'x-remote-user': as }),
        ...(groups.length > 0 ? { 'x-remote-group': [...groups] } : {}),
      },
      body,
      ...(files ? { cert: readFileSync(files.cert), key: readFileSync(files.key) } : {}),
    });
  }

  async function ask({ body = '', ...options }: AskOptions): Promise<{ status: number; text: string }> {
    const ca = readFileSync(`${tlsDirectory}/${TLS_FILES.ca}`);
    return await new Promise((resolve, reject) => {
      const asked = request(
        { host: '127.0.0.1', method: 'POST', agent: false, ca, ...options },
        (response) => {
          let text = '';
          response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
          response.on('end', () => resolve({ status: response.statusCode ?? 0, text }));
        },
      );
      asked.on('error', reject);
      asked.end(body);
    });
  }
});

interface AskOptions {
  readonly port: number;
  readonly path: string;
  readonly headers: Record<string, string | string[]>;
  readonly body?: string;
  readonly cert?: Buffer;
  readonly key?: Buffer;
}
