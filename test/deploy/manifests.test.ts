import assert from 'node:assert/strict';
import { readFileSync, readdirSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseAllDocuments } from 'yaml';
import { useStack } from '../support/stack.js';
import type { Manifest } from './requests.js';

const DEPLOY = fileURLToPath(new URL('../../deploy/', import.meta.url));
const EXAMPLES = join(DEPLOY, 'examples');
const DOCUMENTED = fileURLToPath(new URL('documented/', import.meta.url));

/** The counterpart in `deploy/examples/` of each manifest that the OpenShift documents print. */
const COUNTERPARTS: Readonly<Record<string, string>> = {
  'hostpath-provisioner-v1alpha1': 'hostpath-provisioner',
  'hostpath-provisioner-quoted': 'hostpath-provisioner',
  'hostpath-provisioner-workload': 'hostpath-provisioner',
  'hostpath-provisioner-legacy': 'hostpath-provisioner',
  'hostpath-provisioner-pools': 'hostpath-provisioner-pools',
  'storage-class': 'storage-class',
  'storage-class-csi': 'storage-class-pool',
  'local-block-volume': 'local-block-volume',
  'destination-volume': 'local-volume',
  upload: 'upload',
  clone: 'clone-to-node',
  blank: 'blank',
  'storage-class-defaults': 'storage-defaults',
  'scratch-space': 'scratch-space',
  'vm-disk-clone': 'vm-disk-clone',
  'vm-disk-import': 'vm-disk-import',
  'clone-rights': 'clone-rights',
};

/** A Deployment or DaemonSet, as far as it is read here. */
interface Workload {
  readonly spec: {
    readonly template: {
      readonly spec: {
        readonly containers: readonly { readonly env?: readonly { readonly name: string }[] }[];
      };
    };
  };
}

describe('manifests', function () {
  this.timeout(90_000);
  const stack = useStack();

  before('namespaces that the documents name', async () => {
    await stack.kubectl(['create', 'namespace', 'openshift-cnv']);
  });

  after(async () => {
    await stack.kubectl(['delete', '--wait=false', 'namespace', 'openshift-cnv']);
  });

  describe('of deploy/examples', () => {
    manifestsIn(EXAMPLES).forEach((file) => {
      it(`${basename(file)} says what it is for, and applies`, async () => {
        assert.match(readFileSync(file, 'utf8'), /^# .+/);
        await apply(file);
      });
    });

    it('DataVolumes are of the stored version and named as their file', () => {
      for (const file of manifestsIn(EXAMPLES)) {
        const [volume] = parse(file).filter(({ kind }) => kind === 'DataVolume');
        if (!volume) continue;
        assert.equal(volume.apiVersion, 'cdi.kubevirt.io/v1beta1', file);
        assert.match(
          `${volume.metadata.name}.yaml from-data-source.yaml`,
          new RegExp(`\\b${basename(file)}`),
          file,
        );
      }
    });
  });

  describe('of the OpenShift documents', () => {
    manifestsIn(DOCUMENTED).forEach((file) => {
      it(`${basename(file)} applies`, async () => {
        await apply(file);
      });
    });

    it('have a counterpart of the same kinds among the examples', () => {
      const documented = manifestsIn(DOCUMENTED).map((file) => basename(file, '.yaml'));
      assert.deepEqual(documented.toSorted(), Object.keys(COUNTERPARTS).toSorted());
      for (const [original, example] of Object.entries(COUNTERPARTS)) {
        const kinds = new Set(parse(join(EXAMPLES, `${example}.yaml`)).map(({ kind }) => kind));
        const [first] = parse(join(DOCUMENTED, `${original}.yaml`)).toReversed();
        assert.ok(kinds.has(first?.kind ?? ''), `${example} has no ${first?.kind}`);
      }
    });
  });

  it('of the whole of deploy/, workers included, apply', async () => {
    const output = await stack.kubectl(['apply', '--dry-run=server', '-k', DEPLOY]);
    for (const name of [
      'deployment.apps/dvflow-control',
      'daemonset.apps/dvflow-node',
      'deployment.apps/dvflow-gateway',
      'v1beta1.upload.cdi.kubevirt.io',
      'v1alpha1.upload.cdi.kubevirt.io',
      'crd',
      'dvflow-marks',
    ])
      assert.ok(
        output.includes(name === 'crd' ? 'datavolumes.cdi.kubevirt.io' : name),
        `${name} is missing in ${output}`,
      );
  });

  it('workers in pods refuse sources at the addresses of their node', () => {
    for (const role of ['control', 'node']) {
      const text = readFileSync(join(DEPLOY, 'workers', `${role}.yaml`), 'utf8');
      const { spec } = parseAllDocuments(text)[0]?.toJS() as Workload;
      const env = spec.template.spec.containers[0]?.env ?? [];
      // a reference is expanded only where what it names comes before it
      assert.deepEqual(
        env.filter(({ name }) => ['HOST_IPS', 'DVFLOW_DENIED_SOURCES'].includes(name)),
        [
          { name: 'HOST_IPS', valueFrom: { fieldRef: { fieldPath: 'status.hostIPs' } } },
          { name: 'DVFLOW_DENIED_SOURCES', value: '$(HOST_IPS)' },
        ],
        role,
      );
    }
  });

  /** A HostPathProvisioner is there already, with a path: a file replaces it, where an apply would merge the two. */
  async function apply(file: string): Promise<void> {
    const replaces = parse(file).some(({ kind }) => kind === 'HostPathProvisioner');
    await stack.kubectl([replaces ? 'replace' : 'apply', '--dry-run=server', '-f', file]);
  }
});

function manifestsIn(directory: string): readonly string[] {
  return readdirSync(directory)
    .toSorted()
    .map((name) => join(directory, name));
}

function parse(file: string): readonly Manifest[] {
  return parseAllDocuments(readFileSync(file, 'utf8')).map((document) => document.toJS() as Manifest);
}
