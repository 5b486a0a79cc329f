import assert from 'node:assert/strict';
import { refusalOf } from '../../activities/backing-path.js';
import { layout, stateDirectory } from '../../local/paths.js';

describe('the directory of a local stack', () => {
  it('is one whose pool may be a backing directory, where nobody names another', () => {
    assert.equal(refusalOf(layout(stateDirectory({})).pool), undefined);
    assert.equal(
      refusalOf(layout(stateDirectory({ XDG_STATE_HOME: '/home/ada/.local/state' })).pool),
      undefined,
    );
  });

  it('is the one that is named', () => {
    assert.equal(stateDirectory({ DVFLOW_LOCAL_DIR: '/srv/one' }), '/srv/one');
  });
});
