import assert from 'node:assert/strict';
import { sourcePolicy } from '../../workers/source-policy.js';
import { useControlPlane } from './support/control-plane.js';

const OPERATOR = { allowed: ['192.0.2.1/32'], denied: ['198.51.100.0/24'] };

describe('sourcePolicy on a real API server', function () {
  this.timeout(30_000);
  const plane = useControlPlane();

  async function deniedFor(namespace: string, account: string): Promise<readonly string[]> {
    const kubeConfig = await plane().configFor(namespace, account);
    const policy = await sourcePolicy(OPERATOR, { kubeConfig, temporalAddress: '203.0.113.7:7233' });
    assert.deepEqual(policy.allowed, OPERATOR.allowed);
    return policy.denied;
  }

  it('denies what the operator denies, this machine, Temporal and the API server', async () => {
    const denied = await deniedFor('default', 'default');
    for (const address of ['198.51.100.0/24', '127.0.0.1', '203.0.113.7'])
      assert.ok(denied.includes(address), address);
  });

  it('denies with the rights of either worker what is behind the Service of the API server, too', async () => {
    const { discovery } = plane().admin;
    const behind = '192.0.2.77';
    // a server that advertises a loopback address, as this one does, writes none
    await discovery.createNamespacedEndpointSlice({
      namespace: 'default',
      body: {
        metadata: { name: 'kubernetes' },
        addressType: 'IPv4',
        endpoints: [{ addresses: [behind] }],
        ports: [{ name: 'https', port: 6443, protocol: 'TCP' }],
      },
    });
    try {
      assert.ok((await deniedFor('dvflow', 'dvflow-control')).includes(behind), 'control');
      assert.ok((await deniedFor('dvflow-nodes', 'dvflow-node')).includes(behind), 'node');
      // without the right the worker starts all the same
      assert.ok(!(await deniedFor('default', 'default')).includes(behind));
    } finally {
      await discovery.deleteNamespacedEndpointSlice({ namespace: 'default', name: 'kubernetes' });
    }
  });
});
