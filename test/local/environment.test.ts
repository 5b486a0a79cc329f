import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { loadClientConnectConfig } from '@temporalio/envconfig';
import { environmentLines } from '../../cli/commands/local.js';
import {
  foreignEnvironment,
  processEnvironment,
  refuseForeign,
  refuseWithoutConsent,
  temporalProfile,
} from '../../local/environment.js';
import { commandFor } from '../../local/commands.js';
import { cacheDirectory, stateDirectory } from '../../local/paths.js';
import { DEFAULT_PORTS } from '../../local/ports.js';
import type { StackState } from '../../local/state.js';
import { SEARCH_ATTRIBUTE_NAMES } from '../../local/temporal.js';
import type { StackInfo } from '../../local/types.js';
import { SEARCH_ATTRIBUTES } from '../../workflows/messages.js';

const directory = '/nowhere/stack';
const profile = `${directory}/temporal.toml`;
const own = { KUBECONFIG: `${directory}/kubeconfigs/admin.yaml`, TEMPORAL_ADDRESS: '127.0.0.1:7233' };

describe('what the environment names', () => {
  it('is nobody else’s while it is unset or the stack’s own', () => {
    assert.deepEqual(foreignEnvironment(directory, {}), {});
    assert.deepEqual(foreignEnvironment(directory, own), {});
    assert.deepEqual(foreignEnvironment(directory, { TEMPORAL_ADDRESS: 'localhost:7233' }), {});
    const ofDefault = { DVFLOW_LOCAL_DIR: '/other', KUBECONFIG: '/other/kubeconfigs/admin.yaml' };
    assert.deepEqual(foreignEnvironment(directory, ofDefault), {});
  });

  it('is foreign when it differs, even in one file of a list', () => {
    const KUBECONFIG = `${own.KUBECONFIG}:/home/user/.kube/config`;
    assert.deepEqual(foreignEnvironment(directory, { KUBECONFIG }), { kubeconfig: KUBECONFIG });
    const TEMPORAL_ADDRESS = 'temporal.example.com:7233';
    assert.deepEqual(foreignEnvironment(directory, { TEMPORAL_ADDRESS }), {
      temporalAddress: TEMPORAL_ADDRESS,
    });
  });

  it('is used by a local stack with consent, and without where it is a Temporal server of this machine', () => {
    for (const temporalAddress of ['127.0.0.1:9233', 'localhost:9233', '[::1]:9233'])
      refuseWithoutConsent({ temporalAddress }, {});
    for (const temporalAddress of [
      'temporal.example.com:7233',
      '127.0.0.1.example.com:7233',
      '10.0.0.1:7233',
    ])
      assert.throws(
        () => refuseWithoutConsent({ temporalAddress }, {}),
        /TEMPORAL_ADDRESS=.* is not a Temporal server of this machine: .*DVFLOW_USE_CLUSTER=1/,
      );
    const both = { temporalAddress: 'temporal.example.com:7233', kubeconfig: '/home/user/.kube/config' };
    assert.throws(() => refuseWithoutConsent(both, {}), /KUBECONFIG=\/home\/user\/\.kube\/config is not/);
    refuseWithoutConsent(both, { DVFLOW_USE_CLUSTER: '1' });
  });

  it('stops a demo or test by name, unless the cluster is meant', () => {
    const env = { KUBECONFIG: '/home/user/.kube/config', TEMPORAL_ADDRESS: 'temporal.example.com:7233' };
    assert.throws(
      () => refuseForeign('npm test', directory, env),
      /KUBECONFIG=\/home\/user\/\.kube\/config and TEMPORAL_ADDRESS=temporal\.example\.com:7233 .*npm test.*DVFLOW_USE_CLUSTER=1/,
    );
    refuseForeign('npm test', directory, { ...env, DVFLOW_USE_CLUSTER: '1' });
    refuseForeign('npm test', directory, own);
  });

  it('reaches the stack’s processes only as far as they need it', () => {
    const env = processEnvironment({ PATH: '/bin', ETCD_NAME: 'x', KUBECONFIG: '/k', NO_PROXY: 'intranet' });
    assert.deepEqual(env, {
      PATH: '/bin',
      NO_PROXY: 'intranet,127.0.0.1,localhost',
      no_proxy: 'intranet,127.0.0.1,localhost',
    });
  });
});

describe('where the local stack keeps things', () => {
  it('follows DVFLOW_LOCAL_DIR, then the XDG directories', () => {
    assert.equal(stateDirectory({ DVFLOW_LOCAL_DIR: '/a', XDG_STATE_HOME: '/b' }), '/a');
    assert.equal(stateDirectory({ XDG_STATE_HOME: '/b' }), '/b/dvflow/local');
    assert.equal(cacheDirectory({ XDG_CACHE_HOME: '/c' }), '/c/dvflow');
  });
});

describe('dvflow local env', () => {
  const info = {
    directory,
    kubeconfig: "/home/o'brien/a b/admin.yaml",
    temporalAddress: '127.0.0.1:7233',
    uiUrl: 'http://127.0.0.1:8233',
    nodes: [],
    node: 'n',
    pool: '/p',
    kubectl: [],
    ports: DEFAULT_PORTS,
    pids: {},
  };
  function read(stack: StackInfo, names: readonly string[], env: Record<string, string> = {}): string[] {
    const values = names.map((name) => `"\${${name}-unset}"`).join(' ');
    const script = `${environmentLines(stack, env).join('\n')}\nprintf '%s\\n' ${values}`;
    return execFileSync('sh', ['-euc', script], { encoding: 'utf8', env }).trimEnd().split('\n');
  }

  it('prints what a shell reads back unchanged', () => {
    const lines = read(info, ['KUBECONFIG', 'TEMPORAL_ADDRESS', 'DVFLOW_UI']);
    assert.deepEqual(lines, [info.kubeconfig, info.temporalAddress, info.uiUrl]);
  });

  it('leads away from the Temporal server of a profile, unless the stack uses it', () => {
    const env = { TEMPORAL_PROFILE: 'cloud', TEMPORAL_API_KEY: 'secret', TEMPORAL_NAMESPACE: 'dev' };
    const names = [...Object.keys(env), 'TEMPORAL_CONFIG_FILE'];
    assert.deepEqual(read(info, names, env), ['unset', 'unset', 'default', profile]);
    assert.deepEqual(read({ ...info, uiUrl: '' }, names, env), ['cloud', 'secret', 'dev', 'unset']);
  });
});

describe('the profile of the stack’s Temporal server', () => {
  it('is one that Temporal’s own library reads', () => {
    const configSource = { data: temporalProfile('127.0.0.1:7233') };
    const { connectionOptions, namespace } = loadClientConnectConfig({ configSource, overrideEnvVars: {} });
    assert.deepEqual(
      [connectionOptions.address, connectionOptions.tls, namespace],
      ['127.0.0.1:7233', undefined, 'default'],
    );
  });
});

describe('a worker of the stack', () => {
  const state = {
    ports: DEFAULT_PORTS,
    node: 'n',
    nodes: [],
    temporalAddress: '127.0.0.1:7233',
    environment: {},
    own: { kubernetes: true, temporal: true },
  } as unknown as StackState;
  const named = { TEMPORAL_PROFILE: 'cloud', TEMPORAL_NAMESPACE: 'dev', TEMPORAL_DEBUG: '1' };

  beforeEach(() => void Object.assign(process.env, named));
  afterEach(() => Object.keys(named).forEach((name) => delete process.env[name]));

  const temporalOf = (of: StackState) =>
    Object.entries(commandFor(directory, of, 'worker-control').env)
      .filter(([name]) => name.startsWith('TEMPORAL_'))
      .sort();

  it('is told nothing of the Temporal server of a profile', () => {
    assert.deepEqual(temporalOf(state), [
      ['TEMPORAL_ADDRESS', '127.0.0.1:7233'],
      ['TEMPORAL_CONFIG_FILE', profile],
      ['TEMPORAL_DEBUG', '1'],
      ['TEMPORAL_NAMESPACE', 'default'],
    ]);
  });

  it('is told how to get into the server of somebody else', () => {
    const own = { kubernetes: true, temporal: false };
    const expected = { ...named, TEMPORAL_ADDRESS: '127.0.0.1:7233' };
    assert.deepEqual(temporalOf({ ...state, own }), Object.entries(expected).sort());
  });
});

describe('the Temporal server', () => {
  it('registers the search attributes that lifecycles carry', () => {
    assert.deepEqual(
      [...SEARCH_ATTRIBUTE_NAMES],
      Object.values(SEARCH_ATTRIBUTES).map(({ name }) => name),
    );
  });
});
