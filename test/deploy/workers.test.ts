import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { parse, parseAllDocuments } from 'yaml';
import { projectPath } from '../docs/documents.js';

interface DaemonSet {
  readonly spec: {
    readonly template: {
      readonly spec: {
        readonly containers: readonly {
          readonly env: readonly { readonly name: string; readonly value?: string }[];
          readonly volumeMounts: readonly {
            readonly name: string;
            readonly mountPath: string;
            readonly mountPropagation?: string;
          }[];
        }[];
      };
    };
  };
}

interface Role {
  readonly kind: string;
  readonly metadata: { readonly name: string };
  readonly rules?: readonly {
    readonly resources: readonly string[];
    readonly resourceNames?: readonly string[];
  }[];
}

const read = (path: string): string => readFileSync(projectPath(path), 'utf8');

describe('the workers as deploy/ runs them', () => {
  it('see a disk that is mounted on a node after they started', () => {
    const { spec } = parse(read('deploy/workers/node.yaml')) as DaemonSet;
    const mounts = spec.template.spec.containers[0]?.volumeMounts ?? [];
    const propagated = mounts.filter(({ mountPropagation }) => mountPropagation === 'HostToContainer');
    assert.deepEqual(
      propagated.map(({ mountPath }) => mountPath),
      ['/var/hpvolumes', '/mnt/local-storage'],
    );
  });

  it('have threads on a node for healthy pools beside one that hangs', () => {
    const { spec } = parse(read('deploy/workers/node.yaml')) as DaemonSet;
    const threads = spec.template.spec.containers[0]?.env.find(({ name }) => name === 'UV_THREADPOOL_SIZE');
    assert.equal(threads?.value, '16');
  });

  it('have a first process in their image that takes note of the ends of what is left to it', () => {
    const image = read('deploy/Dockerfile');
    const [, entry = ''] = /^ENTRYPOINT (.*)$/m.exec(image) ?? [];
    const { bin } = JSON.parse(read('package.json')) as { readonly bin: { readonly dvflow: string } };
    assert.deepEqual(JSON.parse(entry), ['tini', '--', 'node', bin.dvflow]);
    assert.match(image, /apt-get install .* tini /);
    for (const needed of ['workers/gateway/page', 'deploy/rbac'])
      assert.ok(image.includes(`COPY --from=build /dvflow/${needed} ${needed}`), needed);
    for (const role of ['control', 'gateway', 'node'])
      assert.doesNotMatch(read(`deploy/workers/${role}.yaml`), /^ *command:/m, 'it is what the pod runs');
  });

  for (const [file, role, constraint] of [
    ['deploy/rbac/node.yaml', 'dvflow-node-scc', 'privileged'],
    ['deploy/rbac/control.yaml', 'dvflow-control-scc', 'nonroot-v2'],
  ] as const) {
    it(`may use the security context constraint ${constraint} of OpenShift, and no other`, () => {
      const documents = parseAllDocuments(read(file)).map((document) => document.toJS() as Role);
      const granted = documents
        .flatMap(({ kind, metadata, rules = [] }) => rules.map((rule) => ({ kind, metadata, ...rule })))
        .filter(({ resources }) => resources.includes('securitycontextconstraints'));
      assert.deepEqual(
        granted.map(({ kind, metadata, resourceNames }) => [kind, metadata.name, resourceNames]),
        [['Role', role, [constraint]]],
      );
    });
  }
});
