import type { V1CustomResourceDefinition } from '@kubernetes/client-node';
import type { ClusterFacts } from '../cluster.js';
import { about, type Finding } from '../findings.js';
import { isOlder } from '../versions.js';
import { notJudged } from './not-judged.js';

/** ValidatingAdmissionPolicy, which guards dvflow's marks and the sources of clones, is generally available from here on. */
const LEAST_KUBERNETES = '1.30';

/** The kinds of `deploy/crds`; KubeVirt waits for the first five. */
const CRDS = [
  'datavolumes.cdi.kubevirt.io',
  'datasources.cdi.kubevirt.io',
  'cdis.cdi.kubevirt.io',
  'cdiconfigs.cdi.kubevirt.io',
  'storageprofiles.cdi.kubevirt.io',
  'hostpathprovisioners.hostpathprovisioner.kubevirt.io',
] as const;

const VERSIONS = ['v1beta1', 'v1alpha1'] as const;

/** The policies of `deploy/policies`, and what it means when nothing enforces one. */
const POLICIES = {
  'dvflow-marks':
    'whoever may edit a DataVolume or claim can forge the marks that the sweeper and the watch believe',
  'dvflow-clone-source': 'whoever may create a DataVolume can copy the disks of every namespace',
  'dvflow-data-source': 'whoever may write a DataSource can offer the disks of every namespace to be copied',
} as const;

/** The API server and what dvflow has put into it. */
export function checkKubernetes(facts: ClusterFacts): readonly Finding[] {
  return [checkServer(facts), checkDefinitions(facts), ...checkPolicies(facts), ...checkRivals(facts)];
}

function checkServer({ version, server }: ClusterFacts): Finding {
  const subject = about('Kubernetes', 'API server');
  if (version.refused !== undefined) return notJudged(subject, version);
  const found = `Kubernetes ${version.value} at ${server}`;
  if (!isOlder(version.value, LEAST_KUBERNETES)) return subject.ok(found);
  return subject.problem({
    found,
    means: `ValidatingAdmissionPolicy, which guards what dvflow marks as its own, needs ${LEAST_KUBERNETES}`,
    todo: `upgrade the cluster to ${LEAST_KUBERNETES} or newer`,
  });
}

/** Whoever may not read the definitions may still see what is served. */
function checkDefinitions({ crds, served }: ClusterFacts): Finding {
  const subject = about('Kubernetes', 'CRDs');
  if (crds.refused !== undefined) {
    if (served.refused !== undefined && served.kind !== 'notFound') return notJudged(subject, crds);
    const missing = CRDS.filter((name) => !served.value?.includes(name.split('.')[0] ?? ''));
    return missing.length > 0 ? notServed(missing) : subject.ok(`all ${CRDS.length} kinds are served`);
  }
  const byName = new Map(crds.value.map((crd) => [crd.metadata?.name, crd]));
  const missing = CRDS.flatMap((name) => {
    const why = whyNotServed(byName.get(name));
    return why === undefined ? [] : [`${name} (${why})`];
  });
  if (missing.length > 0) return notServed(missing);
  return subject.ok(`all ${CRDS.length} are established and served as ${VERSIONS.join(' and ')}`);

  function notServed(names: readonly string[]): Finding {
    return subject.problem({
      found: `not served: ${names.join(', ')}`,
      means: 'DataVolumes are not taken, and KubeVirt waits for these kinds before it works',
      todo: 'kubectl apply -k deploy/crds',
    });
  }
}

function whyNotServed(crd: V1CustomResourceDefinition | undefined): string | undefined {
  if (!crd) return 'not installed';
  const conditions = crd.status?.conditions ?? [];
  const refused = conditions.find(({ type, status }) => type === 'NamesAccepted' && status === 'False');
  if (refused) return refused.message ?? 'its names are taken';
  if (!conditions.some(({ type, status }) => type === 'Established' && status === 'True'))
    return 'not established yet';
  const unserved = VERSIONS.find(
    (version) => !crd.spec.versions.some(({ name, served }) => name === version && served),
  );
  return unserved && `${unserved} is not served`;
}

function checkPolicies({ policies }: ClusterFacts): readonly Finding[] {
  return Object.entries(POLICIES).map(([name, means]) => {
    const subject = about('Kubernetes', `policy ${name}`);
    if (policies.refused !== undefined) return notJudged(subject, policies);
    if (policies.value.includes(name)) return subject.ok('bound, and it denies');
    const found = 'no binding enforces it';
    return subject.problem({ found, means, todo: 'kubectl apply -k deploy/policies' });
  });
}

/** Only told where it is so. */
function checkRivals({ cdiDeployments }: ClusterFacts): Finding[] {
  const found = cdiDeployments.value ?? [];
  if (found.length === 0) return [];
  return [
    about('Kubernetes', 'CDI').problem({
      found: `CDI is installed too: ${found.join(', ')}`,
      means: 'two controllers write the status of every DataVolume and make its claim',
      todo: "remove CDI (kubectl delete cdi cdi, then its operator) or dvflow's workers",
    }),
  ];
}
