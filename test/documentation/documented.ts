/** The manifests that the documentation prints, with the reader's values in place of its examples. */
import type { V1Pod } from '@kubernetes/client-node';
import { readDocument } from '../docs/documents.js';
import type { TestStack } from '../support/stack.js';

/** Namespace of the documentation's commands. */
export const CNV = 'openshift-cnv';

/**
 * A manifest as printed, but for what a reader is told to fill in.
 * @throws where it has no such text any more
 */
export function documented(name: string, values: Readonly<Record<string, string>> = {}): string {
  return Object.entries(values).reduce(
    (text, [placeholder, value]) => {
      if (!text.includes(placeholder)) throw new Error(`${name}.yaml has no ${placeholder}`);
      return text.replaceAll(placeholder, value);
    },
    readDocument(`test/deploy/documented/${name}.yaml`),
  );
}

/** Makes the namespace of the documentation, also where one of that name is still going. */
export async function createCnvNamespace(stack: TestStack): Promise<void> {
  await stack.kubectl(['wait', '--for=delete', `namespace/${CNV}`, '--timeout=60s']);
  await stack.kubectl(['create', 'namespace', CNV]);
}

/** Takes an object of the stack away, so that a chapter can make its own under the same name; resolves with the way back. */
export async function takeAway(stack: TestStack, kind: string, name: string): Promise<() => Promise<void>> {
  const { apiVersion, metadata, spec, ...rest } = JSON.parse(
    await stack.kubectl(['get', kind, name, '-o', 'json']),
  ) as {
    readonly apiVersion: string;
    readonly kind: string;
    readonly metadata: { readonly annotations?: object; readonly labels?: object };
    readonly spec?: object;
    readonly status?: object;
  };
  const { annotations, labels } = metadata;
  const input = JSON.stringify({
    ...rest,
    apiVersion,
    metadata: { name, annotations, labels },
    spec,
    status: undefined,
  });
  await stack.kubectl(['delete', kind, name]);
  return async () => {
    await stack.kubectl(['delete', kind, name, '--ignore-not-found']);
    await stack.kubectl(['create', '-f', '-'], { input });
  };
}

/** Manifest of the pod `consumer` that uses a claim. What counts is where the scheduler puts it, not that it runs. */
export function consumerOf(claimName: string): V1Pod {
  return {
    metadata: { name: 'consumer' },
    spec: {
      containers: [{ name: 'qemu', image: 'none', volumeMounts: [{ name: 'disk', mountPath: '/disk' }] }],
      volumes: [{ name: 'disk', persistentVolumeClaim: { claimName } }],
    },
  };
}
