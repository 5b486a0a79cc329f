import type { Finding, Subject } from '../findings.js';
import type { Reading } from '../reading.js';

/** A question that was not answered: neither good nor bad, but said. */
export function notJudged(
  subject: Subject,
  { refused = '', kind }: Extract<Reading<unknown>, { refused: string }>,
): Finding {
  const todo =
    kind === 'forbidden'
      ? 'run dvflow doctor as an administrator of the cluster'
      : 'run dvflow doctor again, and look at the server that does not answer';
  return subject.warning({ found: `not judged: ${refused}`, means: 'it may be well or not', todo });
}
