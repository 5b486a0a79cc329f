import { about, type Finding } from '../findings.js';
import type { Reading } from '../reading.js';
import type { AccountRights } from '../rights.js';
import { notJudged } from './not-judged.js';

/** What dvflow's accounts may do. */
export function checkRights(rights: Reading<readonly AccountRights[]>): readonly Finding[] {
  if (rights.refused !== undefined) return [notJudged(about('Kubernetes', 'rights'), rights)];
  return rights.value.map(({ account, asked, missing }) => {
    const subject = about('Kubernetes', `rights of ${account}`);
    if (missing.length === 0) return subject.ok(`all ${asked} that deploy/rbac gives`);
    const [few, rest] = [missing.slice(0, 5), missing.length - 5];
    return subject.problem({
      found: `${missing.length} of ${asked} are missing: ${few.join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`,
      means: 'steps that need them are refused and tried again until they are given',
      todo: 'kubectl apply -k deploy/rbac',
    });
  });
}
