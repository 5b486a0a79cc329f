import assert from 'node:assert/strict';
import { valueOf } from '../../activities/kubernetes/secret-values.js';
import { plainDirectory, withoutEnd } from '../../activities/without-end.js';

describe('values of Secrets', () => {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');

  for (const [held, value] of [
    ['word\n', 'word'],
    ['word\r\n\r\n', 'word'],
    ['\ntwo\nlines\n', '\ntwo\nlines'],
    ['word \n', 'word '],
    ['\n\r', ''],
    ['', ''],
  ] as const)
    it(`are without line ends: ${JSON.stringify(held)}`, () =>
      assert.equal(valueOf({ data: { key: base64(held) } }, 'key'), value));

  it('are empty where there is none', () => assert.equal(valueOf(undefined, 'key'), ''));

  it('are read in no time, however many line ends they hold', () => {
    // a regexp takes minutes for it, in which the control role does nothing else
    const held = `${'\n'.repeat(200_000)}x`;
    assert.equal(valueOf({ data: { key: base64(held) } }, 'key'), held);
  });
});

describe('ends of text', () => {
  it('are taken off as far as all characters are of the set', () => {
    assert.equal(withoutEnd('/a/b//', '/'), '/a/b');
    assert.equal(withoutEnd('///', '/'), '');
    assert.equal(withoutEnd('', '/'), '');
  });

  for (const [path, plain] of [
    ['/var/lib//', '/var/lib'],
    ['//', '/'],
    ['/', '/'],
    ['a', 'a'],
    ['', ''],
  ] as const)
    it(`leave of the directory '${path}' '${plain}'`, () => assert.equal(plainDirectory(path), plain));
});
