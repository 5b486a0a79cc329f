import assert from 'node:assert/strict';
import { parseResponseHead } from '../../../activities/image/source/pipeline/response-head.js';

describe('heads of pipelined answers', () => {
  const parse = (...lines: readonly string[]) =>
    parseResponseHead(Buffer.from(['HTTP/1.1 206 x', ...lines, '', ''].join('\r\n'), 'latin1'));
  const headersOf = (...lines: readonly string[]): unknown => {
    const head = parse(...lines);
    return typeof head === 'object' ? head.headers : head;
  };

  for (const [line, headers] of [
    ['ETag:"v1"', { etag: '"v1"' }],
    ['etag: \t "v1"\t ', { etag: '"v1"' }],
    ['x-empty:', { 'x-empty': '' }],
    ['x-blank: \t ', { 'x-blank': '' }],
    ['x-date: a:b\tc  d', { 'x-date': 'a:b\tc  d' }],
    // no blank of HTTP, though one of JavaScript
    ['x-latin: \xa0\xfc\xa0', { 'x-latin': '\xa0\xfc\xa0' }],
    ["!#$%&'*+-.^_`|~09aZ: x", { "!#$%&'*+-.^_`|~09az": 'x' }],
  ] as const)
    it(`hold ${JSON.stringify(line)}`, () => assert.deepEqual(headersOf(line), headers));

  for (const line of [
    ': nameless',
    'no colon',
    'x : blank',
    ' folded: x',
    'x(y): x',
    '\xfc: x',
    'x: a\x01b',
    'x: a\rb',
    'x: a\nb',
    'x: \x7f',
    'x: \x00',
  ])
    it(`with ${JSON.stringify(line)} are left to node:http`, () => assert.equal(parse(line), 'odd'));

  it('are read in no time, however many blanks they hold', () => {
    const started = performance.now();
    // a regexp that is lazy takes a second and more for each
    for (let number = 0; number < 40; number += 1)
      for (const end of ['b', '\x01']) parse(`x-${number}: a${' '.repeat(15_600)}${end}`);
    const tookMs = performance.now() - started;
    assert.ok(tookMs < 4000, `${tookMs} ms`);
  });
});
