import assert from 'node:assert/strict';
import { FAILURE_TYPES } from '../../activities/failures.js';
import { readDocument, tableRows } from './documents.js';

describe('docs/failures.md', () => {
  const rows = tableRows(readDocument('docs/failures.md'), 'Type');

  it('lists each type of the code once, with its class, and no other', () => {
    const documented = rows.map(([type, kind]) => [type, kind]).sort();
    assert.deepEqual(
      documented,
      Object.entries(FAILURE_TYPES)
        .map(([type, kind]) => [type, kind])
        .sort(),
    );
  });

  for (const [type, , meaning, cure] of rows) {
    it(`says what ${type} means and what to do`, () => {
      assert.match(meaning ?? '', /^.{20,}\.$/);
      assert.match(cure ?? '', /^.{5,}\.$/);
    });
  }
});
