import assert from 'node:assert/strict';
import { dataVolumeTable } from '../../cli/render/table.js';
import { HALF_DONE } from './status.js';

const NOW = Date.parse('2026-11-23T10:05:00Z');

function dataVolume(name: string, status?: object) {
  const metadata = { name, namespace: 'team-a', uid: `u-${name}`, creationTimestamp: '2026-11-23T10:00:00Z' };
  return { metadata, ...(status ? { status } : {}) };
}

describe('table of DataVolumes', () => {
  const finished = {
    dataVolume: dataVolume('vm1', { phase: 'Succeeded', progress: '100.0%', restartCount: 2 }),
  };

  it('has the columns of kubectl', () => {
    const text = dataVolumeTable([finished, { dataVolume: dataVolume('new') }], NOW, false);
    assert.deepEqual(
      text.split('\n').map((line) => line.split(/ {2,}/)),
      [
        ['NAME', 'PHASE', 'PROGRESS', 'RESTARTS', 'AGE'],
        ['vm1', 'Succeeded', '100.0%', '2', '5m'],
        ['new', '5m'],
      ],
    );
  });

  it('adds rate and time left while something runs, and the namespace when asked', () => {
    const running = {
      dataVolume: dataVolume('vm2', { phase: 'ImportInProgress', progress: '50.00%' }),
      transfer: HALF_DONE,
    };
    const [head, first, second] = dataVolumeTable([finished, running], NOW, true).split('\n');
    assert.match(head!, /^NAMESPACE +NAME +PHASE +PROGRESS +RESTARTS +AGE +RATE +ETA$/);
    assert.match(first!, /^team-a +vm1 +Succeeded +100\.0% +2 +5m$/);
    assert.match(second!, /^team-a +vm2 +ImportInProgress +50\.00% +5m +64 MiB\/s +8s$/);
  });

  it('draws no lines and no colours', () => {
    assert.doesNotMatch(dataVolumeTable([finished], NOW, false), /[^\x20-\x7e\n]/);
  });
});
