/** KubeVirt's own definitions, out of the Go module that holds its source: nothing of them is written down here. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parse } from 'yaml';

const run = promisify(execFile);

/** Release of KubeVirt whose definitions are served. */
const KUBEVIRT = 'v1.7.0';

/** Where its operator keeps the schemas, as YAML in raw strings of Go, by singular name. */
const SCHEMAS = 'pkg/virt-operator/resource/generate/components/validations_generated.go';

/**
 * The definition of VirtualMachine as KubeVirt's operator makes it: v1 stored, v1alpha3 served for the documents of old. Raw JSON:
 * client-node drops what it does not know of a schema.
 */
export async function virtualMachineDefinition(): Promise<object> {
  const schema = schemaOf(await readFile(join(await source(), SCHEMAS), 'utf8'), 'virtualmachine');
  const version = (name: string, stored: boolean) => ({
    name,
    served: true,
    storage: stored,
    schema,
    subresources: { status: {} },
  });
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: { name: 'virtualmachines.kubevirt.io', labels: { 'kubevirt.io': '' } },
    spec: {
      group: 'kubevirt.io',
      scope: 'Namespaced',
      names: {
        kind: 'VirtualMachine',
        plural: 'virtualmachines',
        singular: 'virtualmachine',
        shortNames: ['vm', 'vms'],
        categories: ['all'],
      },
      versions: [version('v1', true), version('v1alpha3', false)],
    },
  };
}

/** Directory of KubeVirt's source; Go proves that it is what the checksum database knows. */
async function source(): Promise<string> {
  const args = ['mod', 'download', '-json', `kubevirt.io/kubevirt@${KUBEVIRT}`];
  const { stdout } = await run('go', args, { cwd: tmpdir() });
  return (JSON.parse(stdout) as { Dir: string }).Dir;
}

function schemaOf(go: string, singular: string): { openAPIV3Schema: object } {
  const start = `\t"${singular}": \``;
  const from = go.indexOf(start) + start.length;
  if (from < start.length) throw new Error(`KubeVirt ${KUBEVIRT} has no schema of ${singular}`);
  // a backtick ends a raw string of Go, so it is joined in from another one
  const yaml = go.slice(from, go.indexOf('`,\n', from)).replaceAll('` + "`" + `', '`');
  return parse(yaml) as { openAPIV3Schema: object };
}
