import assert from 'node:assert/strict';
import { createHmac, createPrivateKey, createPublicKey, generateKeyPairSync } from 'node:crypto';
import { decodeJwt, decodeProtectedHeader, SignJWT } from 'jose';
import { createTokens, RENEW_SECONDS, TOKEN_SECONDS, type TokenError } from '../../workers/gateway/tokens.js';
import { keysOver, secretStore } from './support.js';

const TARGET = { namespace: 'team-a', name: 'disk', claimUid: 'claim-uid' };
const START = Date.parse('2026-11-28T12:00:00Z');

/** Signs what is given with the key in the store. */
async function forge(
  store: ReturnType<typeof secretStore>,
  claims: Record<string, unknown>,
  alg = 'PS256',
): Promise<string> {
  const pem = Buffer.from(store.secret.data?.['current.pem'] ?? '', 'base64').toString();
  return await new SignJWT(claims).setProtectedHeader({ alg }).sign(createPrivateKey(pem));
}

async function refusal(work: Promise<unknown>): Promise<TokenError> {
  return await work.then(
    () => assert.fail('the token was believed'),
    (error: TokenError) => error,
  );
}

describe('upload tokens', () => {
  let now = START;
  const clock = () => now;
  const store = secretStore();
  const tokens = createTokens(keysOver(store, { now: clock }), clock);

  beforeEach(() => {
    now = START;
  });

  it("have CDI's shape, and name the claim's uid", async () => {
    const token = await tokens.issue(TARGET);
    assert.deepEqual(decodeProtectedHeader(token), { alg: 'PS256' });
    const { dvflow, ...claims } = decodeJwt(token);
    const at = START / 1000;
    assert.deepEqual(claims, {
      iss: 'cdi-apiserver',
      iat: at,
      nbf: at,
      exp: at + 300,
      operation: 'Upload',
      name: 'disk',
      namespace: 'team-a',
      resource: { group: '', version: 'v1', resource: 'persistentvolumeclaims' },
    });
    assert.deepEqual(dvflow, { claimUid: 'claim-uid', since: at });
    // the proxy's own pattern must match it
    assert.match(token, /^[A-Za-z0-9\-._~+/]+$/);
  });

  it('are good for five minutes', async () => {
    const token = await tokens.issue(TARGET);
    const verified = await tokens.verify(token);
    assert.deepEqual(verified, { ...TARGET, since: START / 1000, expires: START / 1000 + TOKEN_SECONDS });
    now += (TOKEN_SECONDS + 4) * 1000; // clocks may differ
    await tokens.verify(token);
    now += 2_000;
    const { kind, message } = await refusal(tokens.verify(token));
    assert.equal(kind, 'expired');
    assert.match(message, /has expired/);
  });

  it('are renewed for twelve hours after the first, and no longer', async () => {
    let token = await tokens.issue(TARGET);
    for (; now < START + RENEW_SECONDS * 1000 - 240_000; now += 240_000)
      token = await tokens.renew(await tokens.verify(token));
    const last = await tokens.verify(token);
    assert.equal(last.since, START / 1000);
    const renewed = await tokens.verify(await tokens.renew(last));
    assert.ok(renewed.expires <= START / 1000 + RENEW_SECONDS);
    now = START + RENEW_SECONDS * 1000;
    assert.equal((await refusal(tokens.renew(renewed))).kind, 'invalid');
  });

  it('are believed only as signed: no other algorithm, issuer, key or purpose', async () => {
    const at = START / 1000;
    const good = {
      iss: 'cdi-apiserver',
      iat: at,
      nbf: at,
      exp: at + 300,
      operation: 'Upload',
      name: 'disk',
      namespace: 'team-a',
      resource: { group: '', version: 'v1', resource: 'persistentvolumeclaims' },
      dvflow: { claimUid: 'claim-uid', since: at },
    };
    await tokens.verify(await forge(store, good));
    const invalid = [
      await forge(store, { ...good, iss: 'cdi-deployment' }),
      await forge(store, good, 'RS256'),
      await forge(store, { ...good, exp: undefined }),
      await forge(store, { ...good, nbf: at + 60 }),
      unsigned(good),
      signedByPublicKey(store, good),
      await new SignJWT(good)
        .setProtectedHeader({ alg: 'PS256' })
        .sign(generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey),
      'a.b.c',
      '',
    ];
    for (const token of invalid) assert.equal((await refusal(tokens.verify(token))).kind, 'invalid', token);
    const unfit = [
      { ...good, operation: 'Clone' },
      { ...good, name: '' },
      { ...good, name: '..' },
      { ...good, name: 'A B' },
      { ...good, namespace: '.' },
      { ...good, namespace: undefined },
      { ...good, resource: { group: '', version: 'v1', resource: 'secrets' } },
      { ...good, resource: { group: 'apps', version: 'v1', resource: 'persistentvolumeclaims' } },
    ];
    for (const claims of unfit)
      assert.equal((await refusal(tokens.verify(await forge(store, claims)))).kind, 'unfit');
  });
});

describe('keys of upload tokens', () => {
  it('are made once, whichever replica comes first', async () => {
    const store = secretStore();
    const replicas = [1, 2, 3].map(() => createTokens(keysOver(store)));
    const issued = await Promise.all(replicas.map((tokens) => tokens.issue(TARGET)));
    for (const tokens of replicas) for (const token of issued) await tokens.verify(token);
    assert.deepEqual(Object.keys(store.secret.data ?? {}).sort(), ['current.pem', 'rotated-at']);
  });

  it('change, and the tokens of the key before stay good; those of the one before that do not', async () => {
    const store = secretStore();
    let now = START;
    const options = { now: () => now, rotateAfterMs: 3_600_000 };
    const tokens = createTokens(keysOver(store, options), () => now);
    const first = await tokens.issue(TARGET);
    const { data: before } = store.secret;
    now += 3_600_000;
    // another replica changes the key; this one still has the old one in memory
    const other = createTokens(keysOver(store, options), () => START);
    const second = await other.issue(TARGET);
    assert.notEqual(store.secret.data?.['current.pem'], before?.['current.pem']);
    assert.equal(store.secret.data?.['previous.pem'], before?.['current.pem']);
    assert.notEqual(first, second);
    await other.verify(first);
    now += 3_600_000;
    const third = createTokens(keysOver(store, options), () => START);
    await third.verify(second);
    assert.equal((await refusal(third.verify(first))).kind, 'invalid');
  });

  it('are read again when a token is signed with one that is not known yet', async () => {
    const store = secretStore();
    let now = START;
    const seen = createTokens(keysOver(store, { now: () => now, rotateAfterMs: 3_600_000 }), () => now);
    await seen.issue(TARGET);
    // some seconds later somebody else has put a new key there
    now += 5_000;
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    const pem = privateKey.export({ type: 'pkcs8', format: 'pem' });
    store.put({ 'current.pem': Buffer.from(pem).toString('base64') });
    const at = now / 1000;
    const token = await forge(store, {
      iss: 'cdi-apiserver',
      iat: at,
      nbf: at,
      exp: at + 300,
      operation: 'Upload',
      name: 'disk',
      namespace: 'team-a',
      resource: { group: '', version: 'v1', resource: 'persistentvolumeclaims' },
    });
    assert.equal((await seen.verify(token)).name, 'disk');
  });
});

function unsigned(claims: object): string {
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  return `${part({ alg: 'none' })}.${part(claims)}.`;
}

/** The public key taken for a shared secret: what a verifier that lets the token choose its algorithm falls for. */
function signedByPublicKey(store: ReturnType<typeof secretStore>, claims: object): string {
  const pem = Buffer.from(store.secret.data?.['current.pem'] ?? '', 'base64').toString();
  const publicKey = createPublicKey(createPrivateKey(pem)).export({ type: 'spki', format: 'pem' });
  const part = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const signed = `${part({ alg: 'HS256' })}.${part(claims)}`;
  return `${signed}.${createHmac('sha256', publicKey).update(signed).digest('base64url')}`;
}
