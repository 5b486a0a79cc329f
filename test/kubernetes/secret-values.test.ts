import assert from 'node:assert/strict';
import { bundleOf, valueOf } from '../../activities/kubernetes/secret-values.js';
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

  it('are refused where they are no UTF-8, by their key', () => {
    const secret = { metadata: { namespace: 'n', name: 's' }, data: { secretKey: 'cORzcw==' } };
    assert.throws(
      () => valueOf(secret, 'secretKey'),
      /^ApplicationFailure: key secretKey of Secret n\/s is not UTF-8$/u,
    );
  });

  it('are read in no time, however many line ends they hold', () => {
    // a regexp takes minutes for it, in which the control role does nothing else
    const held = `${'\n'.repeat(200_000)}x`;
    assert.equal(valueOf({ data: { key: base64(held) } }, 'key'), held);
  });
});

describe('certificates of a ConfigMap', () => {
  const metadata = { namespace: 'team', name: 'ca' };
  const pem = (content: string): string =>
    `-----BEGIN CERTIFICATE-----\n${content}\n-----END CERTIFICATE-----\n`;

  it('are those of all keys, in their order, but of hidden ones', () => {
    const data = { b: pem('B'), a: pem('A'), '.c': pem('C') };
    assert.equal(bundleOf({ metadata, data }), `${pem('A')}${pem('B')}`);
  });

  it('are also those that kubectl takes for binary, for a comment in Latin-1', () => {
    const file = Buffer.from(`# Autorit\xe9 interne\n${pem('B')}`, 'latin1');
    const binaryData = { b: file.toString('base64') };
    assert.equal(bundleOf({ metadata, binaryData }), file.toString('latin1'));
    assert.equal(
      bundleOf({ metadata, data: { c: pem('C'), a: pem('A') }, binaryData }),
      `${pem('A')}${file.toString('latin1')}${pem('C')}`,
    );
  });

  it('are refused where there are none', () => {
    const binaryData = { b: Buffer.from('no PEM').toString('base64') };
    assert.throws(
      () => bundleOf({ metadata, data: { a: '' }, binaryData }),
      /^ApplicationFailure: ConfigMap team\/ca holds no PEM certificate in its 2 keys$/,
    );
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
