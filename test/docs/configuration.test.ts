import assert from 'node:assert/strict';
import { SETTINGS } from '../../workers/config.js';
import { readDocument, tableRows } from './documents.js';

describe('configuration tables', () => {
  for (const document of ['README.md', 'docs/operations.md']) {
    it(`${document} has every setting with default and meaning, and no other`, () => {
      const expected = Object.entries(SETTINGS).map(([name, { default: value, meaning }]) => [
        name,
        value,
        meaning,
      ]);
      assert.deepEqual(tableRows(readDocument(document), 'Variable'), expected);
    });
  }
});
