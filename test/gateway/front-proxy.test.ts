import assert from 'node:assert/strict';
import { once } from 'node:events';
import { Agent } from 'node:https';
import type { Socket } from 'node:net';
import { frontProxyUser, readFrontProxy, type FrontProxy } from '../../workers/gateway/front-proxy.js';
import type { ServingTls } from '../../workers/gateway/server.js';
import { createAuthority, type TestAuthority } from '../support/servers/certificates.js';
import { startTestGateway, type TestGateway } from './support.js';

const SOCKET = { authorized: true, getPeerCertificate: () => ({ subject: { CN: 'front-proxy' } }) } as never;

function proxyOf(ca: string, more: Partial<FrontProxy> = {}): FrontProxy {
  return {
    ca,
    allowedNames: [],
    usernameHeaders: ['x-remote-user'],
    uidHeaders: [],
    groupHeaders: ['x-remote-group'],
    extraPrefixes: ['x-remote-extra-'],
    ...more,
  };
}

describe('the front proxy', function () {
  this.timeout(30_000);

  it('names uids only where kube-apiserver says by which header', async () => {
    const headers = { 'x-remote-user': ['alice'], 'x-remote-uid': ['u-1'], 'x-remote-extra-a': ['b'] };
    assert.deepEqual(frontProxyUser(proxyOf('ca'), SOCKET, headers), {
      user: 'alice',
      groups: [],
      extra: { a: ['b'] },
    });
    const data = {
      'requestheader-client-ca-file': 'ca',
      'requestheader-username-headers': '["X-Remote-User"]',
      'requestheader-uid-headers': '["X-Remote-Uid"]',
    };
    const core = { readNamespacedConfigMap: async () => ({ data }) };
    const read = await readFrontProxy({ core } as never);
    assert.deepEqual(frontProxyUser(read, SOCKET, headers), {
      user: 'alice',
      uid: 'u-1',
      groups: [],
      extra: {},
    });
  });

  describe('whose authority changes', () => {
    let first: TestAuthority;
    let second: TestAuthority;
    let gateway: TestGateway;
    let serving: ServingTls;
    let proxy: FrontProxy | undefined;
    let agent: Agent;

    beforeEach(async () => {
      [first, second] = await Promise.all([createAuthority(), createAuthority()]);
      proxy = undefined;
      gateway = await startTestGateway({ parts: { frontProxy: () => proxy } });
      serving = await gateway.authority.issue(['localhost']);
      agent = new Agent({ keepAlive: true, maxSockets: 1, ...(await first.issue(['front-proxy'])) });
    });
    afterEach(async () => {
      agent.destroy();
      await gateway.close();
    });

    function become(authority: TestAuthority | undefined): void {
      proxy = authority && proxyOf(authority.ca);
      gateway.server.renew({ ...serving, ...(authority ? { ca: authority.ca } : {}) });
    }

    async function ask(): Promise<number> {
      const { status } = await gateway.send({
        path: '/apis/upload.cdi.kubevirt.io/v1beta1/namespaces/team-a/uploadtokenrequests?dryRun=All',
        headers: { 'x-remote-user': 'alice' },
        agent,
        body: JSON.stringify({
          apiVersion: 'upload.cdi.kubevirt.io/v1beta1',
          kind: 'UploadTokenRequest',
          spec: { pvcName: 'disk' },
        }),
        keep: true,
      });
      return status;
    }

    /** Of the connection that is kept. */
    async function cut(): Promise<void> {
      const [socket] = Object.values(agent.freeSockets).flat() as Socket[];
      if (socket && !socket.destroyed) await once(socket, 'close');
    }

    it('is believed by a connection that was made before it was known', async () => {
      become(undefined);
      assert.equal(await ask(), 401);
      become(first);
      await cut();
      assert.equal(await ask(), 200);
    });

    it('is not believed by one that was made before it was another one', async () => {
      become(first);
      assert.equal(await ask(), 200);
      // a new certificate cuts nobody
      gateway.server.renew({ ...(await gateway.authority.issue(['localhost'])), ca: first.ca });
      assert.equal(await ask(), 200);
      become(second);
      await cut();
      assert.equal(await ask(), 401);
    });
  });
});
