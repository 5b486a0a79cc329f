import assert from 'node:assert/strict';
import { failureTypeOf } from '../../../activities/failures.js';
import { parseChallenges } from '../../../activities/image/registry/challenges.js';
import { credentialsFor, type Login } from '../../../activities/image/registry/credentials.js';
import { parseReference, type DockerReference } from '../../../activities/image/registry/reference.js';

describe('registry challenges', () => {
  const read = (header: string) =>
    parseChallenges(header).map(({ scheme, parameters }) => [scheme, Object.fromEntries(parameters)]);

  for (const [header, expected] of [
    [
      'Bearer realm="https://a.example/t",service="s, x",scope="repository:a:pull,push"',
      [['bearer', { realm: 'https://a.example/t', service: 's, x', scope: 'repository:a:pull,push' }]],
    ],
    ['basic realm=plain', [['basic', { realm: 'plain' }]]],
    [
      'Basic realm="a \\"b\\"", Bearer realm = "r" , Service=s',
      [
        ['basic', { realm: 'a "b"' }],
        ['bearer', { realm: 'r', service: 's' }],
      ],
    ],
    [
      'Negotiate, Basic realm="x"',
      [
        ['negotiate', {}],
        ['basic', { realm: 'x' }],
      ],
    ],
    ['Bearer realm="a",realm="b"', [['bearer', { realm: 'a' }]]],
    ['Bearer realm="never ends', [['bearer', {}]]],
    ['realm="first"', []],
    ['', []],
    ['@@@', []],
  ] as const)
    it(`reads ${header || 'nothing'}`, () => assert.deepEqual(read(header), expected));

  it('reads a header as long as Node accepts in no time', () => {
    const started = Date.now();
    for (const part of ['a=', 'a="', '\\"', ' ', ',', 'a ', '"a', 'a=b '])
      parseChallenges(`Bearer ${part.repeat(16_000)}`);
    assert.ok(Date.now() - started < 2000);
  });
});

describe('registry credentials', () => {
  const auth = (text: string): string => Buffer.from(text).toString('base64');
  const forImage = (dockerConfig: unknown, url = 'docker://q.example:5000/team/disk') =>
    credentialsFor({ dockerConfig: JSON.stringify(dockerConfig) }, parseReference(url) as DockerReference);

  it('are user name and password before any .dockerconfigjson', () => {
    const reference = parseReference('docker://q.example/a') as DockerReference;
    const dockerConfig = JSON.stringify({ auths: { 'q.example': { auth: auth('a:b') } } });
    const given = { username: 'me', password: 'pass-word' };
    assert.deepEqual(credentialsFor({ ...given, dockerConfig }, reference), given);
    assert.deepEqual(credentialsFor({ username: 'me', dockerConfig }, reference), {
      username: 'a',
      password: 'b',
    });
    assert.equal(credentialsFor({ username: 'me' }, reference), undefined);
  });

  for (const key of [
    'q.example:5000',
    'https://q.example:5000',
    'http://Q.example:5000/v2/',
    'q.example:5000/team',
    'q.example:5000/team/disk',
  ])
    it(`are found under ${key}`, () => {
      const found = forImage({
        auths: { other: { auth: auth('x:y') }, [key]: { auth: auth('me:pass:word') } },
      });
      assert.deepEqual(found, { username: 'me', password: 'pass:word' });
    });

  for (const key of [
    'q.example',
    'q.example:50',
    'q.example:5000/te',
    'q.example:5000/team/disk/x',
    'evil.q.example:5000',
  ])
    it(`are not those of ${key}`, () =>
      assert.equal(forImage({ auths: { [key]: { auth: auth('me:x') } } }), undefined));

  for (const key of ['https://index.docker.io/v1/', 'docker.io', 'registry-1.docker.io', 'index.docker.io'])
    it(`of Docker Hub are found under ${key}`, () => {
      const found = forImage({ auths: { [key]: { username: 'me', password: 'x' } } }, 'docker://fedora');
      assert.deepEqual(found, { username: 'me', password: 'x' });
    });

  it('are those of the longest part of the address', () => {
    const auths = {
      'q.example:5000': { auth: auth('host:x') },
      'q.example:5000/team': { auth: auth('team:x') },
      'q.example:5000/another': { auth: auth('another:x') },
    };
    assert.deepEqual(forImage({ auths }), { username: 'team', password: 'x' });
  });

  it('are without the NUL bytes that some tools end them with, however many are within', () => {
    const found = (password: string) =>
      (forImage({ auths: { 'q.example:5000': { auth: auth(`me:${password}`) } } }) as Login).password;
    assert.equal(found('a\0b\0\0'), 'a\0b');
    // a regexp takes minutes for it
    const long = `${'\0'.repeat(200_000)}x`;
    assert.equal(found(long), long);
  });

  it('are the identity token of a login before the user name that stands beside it', () => {
    const entry = { auth: auth('00000000-0000-0000-0000-000000000000:'), identitytoken: 'pass-token' };
    assert.deepEqual(forImage({ auths: { 'q.example:5000': entry } }), { identityToken: 'pass-token' });
    const login = { username: 'me', password: 'x' };
    assert.deepEqual(forImage({ auths: { 'q.example:5000': { ...entry, ...login } } }), login);
  });

  it('are none where the entry is empty or there is none', () => {
    assert.equal(forImage({ auths: { 'q.example:5000': {} } }), undefined);
    assert.equal(forImage({}), undefined);
  });

  for (const [what, config, message] of [
    ['no JSON', 'pass-word', /is not a JSON object$/u],
    [
      'an entry without a colon',
      { auths: { 'q.example:5000': { auth: auth('pass-word') } } },
      /of q\.example:5000 is not a user name and a password$/u,
    ],
    [
      'a token for the registry',
      { auths: { 'q.example:5000': { auth: auth('me:'), registrytoken: 'pass-word' } } },
      /is a token for the registry itself/u,
    ],
  ] as const)
    it(`refuses ${what}, and quotes nothing of it`, () => {
      assert.throws(
        () => forImage(config),
        (error: Error) =>
          failureTypeOf(error) === 'InvalidDataVolume' &&
          message.test(error.message) &&
          !/pass-word/u.test(String(error.stack)),
      );
    });
});
