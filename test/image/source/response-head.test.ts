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

  const lines = ['HTTP/1.1 206 x', 'a: b', 'content-length: 3'];

  it('are waited for while they may become one, and end at their empty line', () => {
    const bytes = Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
    for (let length = 0; length < bytes.length; length += 1)
      assert.equal(parseResponseHead(bytes.subarray(0, length)), undefined, `${length} bytes`);
    const found = parseResponseHead(Buffer.concat([bytes, Buffer.from('\n\r\n\n')]));
    assert.equal(typeof found === 'object' && found.bytes, bytes.length);
  });

  // node:http, strict or lenient, reads each of them or refuses it: none may be waited for
  for (const text of [
    `${lines.join('\n')}\n\n`,
    `${lines.join('\n')}\n\r\n`,
    `${lines.join('\r\n')}\n\r\n`,
    `${lines.join('\r\n')}\n\n`,
    `${lines.join('\r\n')}\r\n\n`,
    `${lines.join('\r\n')}\r\n\r`,
    `${lines.join('\r\n')}\r\r\n`,
    `${lines.join('\r\r\n')}\r\r\n\r\r\n`,
    `${lines.join('\r')}\r\r`,
    `${lines.join('\n')}\r\n\r\n`,
    `${lines[0]}\ra: b\r\n\r\n`,
    `${lines[0]}\ntransfer-encoding: chunked\r\na: b\r\n\r\n`,
    `${lines[0]}\n\r\n`,
    `${lines[0]}\n\n`,
    `\n${lines.join('\r\n')}\r\n\r\n`,
    `\r\n${lines.join('\r\n')}\r\n\r\n`,
    `\r\n\r\n${lines.join('\r\n')}\r\n\r\n`,
    'SSH-2.0-OpenSSH_9.6\r\n',
    'HTTP/2 206',
    'HTTP/1x',
  ])
    for (const body of ['x', 'x\r\n\r\n'])
      it(`like ${JSON.stringify(text)} before ${JSON.stringify(body)} are left to node:http`, () =>
        assert.equal(parseResponseHead(Buffer.from(text + body, 'latin1')), 'odd'));

  it('are read in no time, however many blanks they hold', () => {
    const started = performance.now();
    // a regexp that is lazy takes a second and more for each
    for (let number = 0; number < 40; number += 1)
      for (const end of ['b', '\x01']) parse(`x-${number}: a${' '.repeat(15_600)}${end}`);
    const tookMs = performance.now() - started;
    assert.ok(tookMs < 4000, `${tookMs} ms`);
  });
});
