import { failureOf, startImport } from 'dvflow';
import { Client, Connection } from '@temporalio/client';
import { loadClientConnectConfig } from '@temporalio/envconfig';

const [name = 'my-disk', url = 'https://images.example.com/disk.qcow2'] = process.argv.slice(2);
const { connectionOptions } = loadClientConnectConfig();
const connection = await Connection.connect({ address: connectionOptions.address ?? '127.0.0.1:7233' });

const running = await startImport(new Client({ connection }), {
  metadata: {
    name,
    namespace: 'default',
    annotations: { 'cdi.kubevirt.io/storage.bind.immediate.requested': 'true' },
  },
  spec: {
    source: { http: { url } },
    storage: { resources: { requests: { storage: '10Gi' } }, storageClassName: 'hostpath-provisioner' },
  },
});
try {
  const { claim, volume } = await running.result();
  console.log(`claim ${claim.namespace}/${claim.name} is Bound to ${volume}`);
} catch (error) {
  const { type, message } = failureOf(error);
  console.error(`${running.workflowId} failed: ${type}: ${message}`);
  process.exitCode = 1;
} finally {
  await connection.close();
}
