import assert from 'node:assert/strict';
import { createProxyBypass } from '../../../activities/image/source/no-proxy.js';
import { askGoForProxies, useGoProgram } from '../../support/servers/go-servers.js';

describe('hosts that are asked without a proxy', () => {
  useGoProgram();

  for (const [noProxy, direct, proxied] of [
    [
      '',
      ['http://localhost/', 'https://127.0.0.1:8443/', 'http://[::1]/', 'http://[::ffff:127.1.2.3]/'],
      ['http://example.com/', 'http://localhost.example.com/', 'http://10.0.0.1/'],
    ],
    [
      'example.com',
      ['http://example.com/', 'https://a.example.com/', 'https://a.b.EXAMPLE.com:8443/'],
      ['http://example.org/', 'http://notexample.com/', 'http://com/'],
    ],
    ['.example.com', ['http://a.example.com/'], ['http://example.com/', 'http://aexample.com/']],
    ['*.Example.com', ['http://a.b.example.com/'], ['http://example.com/']],
    [' a.test , ,b.test,', ['http://a.test/', 'http://x.b.test/'], ['http://c.test/']],
    ['*', ['http://example.com/', 'https://8.8.8.8/', 'https://[2001:db8::1]/'], []],
    ['a.test,*', ['http://b.test/'], []],
    [
      'example.com:8080',
      ['http://example.com:8080/', 'https://a.example.com:8080/'],
      ['http://example.com/', 'http://example.com:80/'],
    ],
    [
      'example.com:80,example.org:443',
      ['http://example.com/', 'https://example.org/'],
      ['https://example.com/', 'http://example.org/'],
    ],
    [
      '10.0.0.0/8,2001:db8::/32',
      ['http://10.1.2.3/', 'http://[2001:db8:1::9]:90/', 'http://[::ffff:10.0.0.1]/'],
      ['http://11.0.0.1/', 'http://[2001:db9::1]/', 'http://10.example.com/'],
    ],
    [
      '192.0.2.7',
      ['http://192.0.2.7/', 'https://192.0.2.7:8443/', 'http://0xc0000207/'],
      ['http://192.0.2.8/'],
    ],
    [
      '192.0.2.7:8443,[2001:db8::1]:443',
      ['https://192.0.2.7:8443/', 'https://[2001:db8:0::1]/'],
      ['https://192.0.2.7/', 'http://[2001:db8::1]/'],
    ],
    ['2001:DB8::1', ['http://[2001:db8::1]:90/'], ['http://[2001:db8::2]/']],
    ['10.0.0.0/33,10.0.0.0/x,/8,:80,[', [], ['http://10.0.0.1/', 'http://example.com/']],
    [
      'bücher.example',
      ['http://bücher.example/', 'http://a.xn--bcher-kva.example/'],
      ['http://bucher.example/'],
    ],
    ['3.4,.2.3.4', [], ['http://1.2.3.4/']],
  ] as const) {
    it(`are, for ${JSON.stringify(noProxy)}, what Go takes for them`, async () => {
      const bypasses = createProxyBypass(noProxy);
      const urls = [...direct, ...proxied];
      for (const url of urls) assert.equal(bypasses(new URL(url)), direct.includes(url as never), url);
      const questions = urls.map((url) => ({ http: 'p:1', https: 'p:1', noProxy, url: new URL(url).href }));
      const answers = await askGoForProxies(questions);
      assert.deepEqual(
        answers.map((answer) => answer === ''),
        urls.map((url) => direct.includes(url as never)),
      );
    });
  }

  it('are what Go takes for them, for random lists', async () => {
    const next = randomNumbers(20261125);
    const pick = <T>(values: readonly T[]): T => values[next() % values.length] as T;
    const hosts = [
      'a',
      'a.b',
      'b',
      'c.a.b',
      'a.b.',
      '10.0.0.1',
      '10.0.0.9',
      '127.0.0.1',
      '[2001:db8::1]',
      '[::ffff:10.0.0.1]',
      'localhost',
    ];
    const entries = [
      ...hosts,
      '.b',
      '*.b',
      '*.',
      '.',
      '*b',
      '10.0.0.0/29',
      '10.0.0.8/29',
      '::/0',
      '2001:db8::1',
      '2001:db8::/64',
      '[]',
      'a.b:',
    ];
    const questions = Array.from({ length: 2000 }, () => {
      const list = Array.from(
        { length: next() % 4 },
        () => `${pick(entries)}${pick(['', '', ':80', ':443', ':x'])}`,
      );
      return {
        http: 'p:1',
        https: 'p:1',
        noProxy: list.join(pick([',', ', '])),
        url: new URL(`${pick(['http', 'https'])}://${pick(hosts)}${pick(['', ':80', ':443', ':8080'])}/`)
          .href,
      };
    });
    const answers = await askGoForProxies(questions);
    const mistakes = questions.filter(({ noProxy, url }, index) => {
      return createProxyBypass(noProxy)(new URL(url)) !== (answers[index] === '');
    });
    assert.deepEqual(mistakes, []);
    assert.ok(new Set(answers).size === 2);
  });
});

/** The same numbers in each run, so that a mistake is found again. */
function randomNumbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0;
    return state >>> 8;
  };
}
