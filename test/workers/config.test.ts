import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { readConfig, SETTINGS } from '../../workers/config.js';

describe('configuration of the workers', () => {
  it('has safe defaults: nothing is allowed, nothing listens', () => {
    const { nodeName, ...config } = readConfig({});
    assert.ok(nodeName.length > 0);
    assert.deepEqual(config, {
      policy: { allowed: [], denied: [] },
      ambientCredentials: false,
      transferSlots: 2,
      logLevel: 'info',
      transferNamespace: 'dvflow-transfers',
      sweepGraceMs: 600_000,
      stateDirectory: '/var/lib/dvflow',
      deviceDirectory: '/dev/dvflow',
      selinuxfs: '/sys/fs/selinux',
      uploadSlots: 8,
      tlsSecrets: false,
      takeNamespace: false,
    });
  });

  it('reads every setting', () => {
    const config = readConfig({
      DVFLOW_NODE_NAME: 'node01',
      DVFLOW_ALLOWED_SOURCES: '127.0.0.0/8, ::1',
      DVFLOW_DENIED_SOURCES: '10.0.0.0/8',
      DVFLOW_AMBIENT_CREDENTIALS: 'true',
      DVFLOW_TRANSFER_SLOTS: '7',
      DVFLOW_HEALTH_ADDRESS: '[::1]:8081',
      DVFLOW_METRICS_ADDRESS: ':9090',
      DVFLOW_LOG_LEVEL: 'debug',
      DVFLOW_TRANSFER_NAMESPACE: 'elsewhere',
      DVFLOW_SWEEP_GRACE_MS: '0',
      DVFLOW_STATE_DIRECTORY: '/srv/dvflow/',
      DVFLOW_DEVICE_DIRECTORY: '/run/dvflow',
      DVFLOW_DATA_PORT_ADDRESS: '127.0.0.1:0',
      DVFLOW_DATA_PORT_HOST: 'node01.example',
      DVFLOW_TLS_DIRECTORY: '/var/run/dvflow/tls/',
      DVFLOW_TLS_SECRETS: 'true',
      DVFLOW_TAKE_TEMPORAL_NAMESPACE: 'true',
      DVFLOW_GATEWAY_ADDRESS: ':8443',
      DVFLOW_GATEWAY_TLS_DIRECTORY: '/var/run/dvflow/serving/',
      DVFLOW_UPLOAD_SLOTS: '3',
      DVFLOW_UPLOAD_PROXY_URL: 'uploads.example',
    });
    assert.deepEqual(config, {
      nodeName: 'node01',
      policy: { allowed: ['127.0.0.0/8', '::1/128'], denied: ['10.0.0.0/8'] },
      ambientCredentials: true,
      transferSlots: 7,
      healthAddress: { host: '::1', port: 8081 },
      metricsAddress: '0.0.0.0:9090',
      logLevel: 'debug',
      transferNamespace: 'elsewhere',
      sweepGraceMs: 0,
      stateDirectory: '/srv/dvflow',
      deviceDirectory: '/run/dvflow',
      selinuxfs: '/sys/fs/selinux',
      dataPortAddress: { host: '127.0.0.1', port: 0 },
      dataPortHost: 'node01.example',
      tlsDirectory: '/var/run/dvflow/tls',
      gatewayAddress: { host: '0.0.0.0', port: 8443 },
      gatewayTlsDirectory: '/var/run/dvflow/serving',
      uploadSlots: 3,
      uploadProxyUrl: 'uploads.example',
      tlsSecrets: true,
      takeNamespace: true,
    });
  });

  it('names every problem at once', () => {
    const bad = {
      DVFLOW_ALLOWED_SOURCES: 'example.com',
      DVFLOW_DENIED_SOURCES: '10.0.0.0/99',
      DVFLOW_AMBIENT_CREDENTIALS: 'yes',
      DVFLOW_TRANSFER_SLOTS: '0',
      DVFLOW_HEALTH_ADDRESS: 'nowhere',
      DVFLOW_LOG_LEVEL: 'loud',
      DVFLOW_SWEEP_GRACE_MS: '-1',
      DVFLOW_UPLOAD_SLOTS: '0',
      DVFLOW_UPLOAD_PROXY_URL: 'http://uploads.example',
      DVFLOW_GATEWAY_TLS_DIRECTORY: 'relative',
    };
    assert.throws(
      () => readConfig(bad),
      (error: Error) => {
        for (const name of Object.keys(bad)) assert.match(error.message, new RegExp(name));
        return true;
      },
    );
  });

  it('is documented, setting by setting', () => {
    const documented = readFileSync(new URL('../../docs/operations.md', import.meta.url), 'utf8');
    for (const [name, { meaning }] of Object.entries(SETTINGS)) {
      assert.ok(documented.includes(`\`${name}\``), `${name} is not in docs/operations.md`);
      assert.ok(meaning.length > 0);
    }
    const mentioned = [...documented.matchAll(/`(DVFLOW_[A-Z_]+)`/g)].map(([, name]) => name);
    const elsewhere = ['DVFLOW_USE_CLUSTER', 'DVFLOW_LOCAL_DIR', 'DVFLOW_UI'];
    for (const name of mentioned)
      assert.ok(name! in SETTINGS || elsewhere.includes(name!), `${name} does not exist`);
  });
});
