import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { inspect } from 'node:util';
import { startGoServer, useGoProgram } from '../../support/servers/go-servers.js';
import type { GoServer } from '../../support/servers/go-servers.js';
import { PAGE, startServer } from '../../support/servers/index.js';
import type { RunningServer } from '../../support/servers/index.js';
import { putObject, startS3Server } from '../../support/servers/s3-server.js';
import { BYTES, collect, fails, useBench } from './open.js';

const VENDOR = '/sys/class/dmi/id/sys_vendor';
const IN_AN_HOUR = () => new Date(Date.now() + 3_600_000).toISOString();

describe('ambient credentials of an S3 source', () => {
  useGoProgram();
  const bench = useBench();
  let store: GoServer;
  let directory: string;
  let outside: NodeJS.ProcessEnv;
  before(async () => {
    store = await startGoServer('s3');
    await putObject(store, '/images/disk.img', BYTES);
  });
  after(() => store.end());
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'dvflow-aws-'));
    outside = { ...process.env };
    for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name];
    // nobody's own configuration
    process.env['AWS_CONFIG_FILE'] = join(directory, 'config');
    process.env['AWS_SHARED_CREDENTIALS_FILE'] = join(directory, 'credentials');
  });
  afterEach(() => {
    for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name];
    Object.assign(process.env, outside);
    rmSync(directory, { recursive: true });
  });

  const open = async ({ url }: RunningServer, ambient = true) => {
    const request = { kind: 's3', url: `${url}/images/disk.img`, ambient } as const;
    return (await bench.openRequest(request)).source;
  };
  const serve = (keys: Record<string, string>, sessions: Record<string, string> = {}) =>
    bench.serve(startS3Server({ store, keys, sessions }));
  async function readsAll(server: RunningServer): Promise<void> {
    const source = await open(server);
    assert.ok((await collect(source.stream(0))).equals(BYTES));
  }

  it('are those of the environment, where the request says so and nowhere else', async () => {
    process.env['AWS_ACCESS_KEY_ID'] = 'AKIDENV';
    process.env['AWS_SECRET_ACCESS_KEY'] = 'sesame';
    process.env['AWS_SESSION_TOKEN'] = 'session/+=';
    const server = await serve({ AKIDENV: 'sesame' }, { AKIDENV: 'session/+=' });
    await readsAll(server);
    await fails((await open(server, false)).probe(), 'SourceForbidden', /403 Forbidden$/u);
    assert.equal(server.requests().at(-1)?.path, '/images/disk.img');
  });

  it('are those of the shared files', async () => {
    writeFileSync(
      join(directory, 'credentials'),
      '[default]\naws_access_key_id = AKIDFILE\naws_secret_access_key = sesame\n',
    );
    await readsAll(await serve({ AKIDFILE: 'sesame' }));
  });

  it('are those of a pod, asked for again when a session has ended before its time', async () => {
    let session = 'first';
    const agent = await bench.serve(
      startServer((request, response) => {
        assert.equal(request.headers.authorization, 'pod-token');
        response.setHeader('content-type', 'application/json').end(
          JSON.stringify({
            AccessKeyId: 'AKIDPOD',
            SecretAccessKey: 'sesame',
            Token: session,
            Expiration: IN_AN_HOUR(),
          }),
        );
      }),
    );
    writeFileSync(join(directory, 'token'), 'pod-token');
    process.env['AWS_CONTAINER_CREDENTIALS_FULL_URI'] = `${agent.url}/v1/credentials`;
    process.env['AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE'] = join(directory, 'token');
    const sessions = { AKIDPOD: session };
    const source = await open(await serve({ AKIDPOD: 'sesame' }, sessions));
    await source.probe();
    session = 'second';
    sessions.AKIDPOD = session;
    const target = Buffer.alloc(100);
    await source.readInto(77, target);
    assert.ok(target.equals(BYTES.subarray(77, 177)));
    assert.equal(agent.requests().length, 2);
  });

  const startTokenService = (status: number) =>
    bench.serve(
      startServer((_request, response) => {
        response
          .writeHead(status, { 'content-type': 'text/xml' })
          .end(
            status === 200
              ? `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>AKIDWEB</AccessKeyId><SecretAccessKey>sesame</SecretAccessKey><SessionToken>web</SessionToken><Expiration>${IN_AN_HOUR()}</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`
              : `<ErrorResponse><Error><Code>AccessDenied</Code><Message>${PAGE}</Message></Error></ErrorResponse>`,
          );
      }),
    );
  function useWebIdentity(service: RunningServer): void {
    writeFileSync(join(directory, 'token'), 'web-token-sesame');
    process.env['AWS_WEB_IDENTITY_TOKEN_FILE'] = join(directory, 'token');
    process.env['AWS_ROLE_ARN'] = 'arn:aws:iam::123456789012:role/importer';
    process.env['AWS_ENDPOINT_URL_STS'] = service.url;
  }

  it('are those of a web identity', async () => {
    useWebIdentity(await startTokenService(200));
    await readsAll(await serve({ AKIDWEB: 'sesame' }, { AKIDWEB: 'web' }));
  });

  it('are a failure when they are there and not to be had, not a reason to go on without', async () => {
    useWebIdentity(await startTokenService(403));
    const server = await serve({});
    const error = await fails(
      (await open(server)).probe(),
      'SourceForbidden',
      /^the ambient AWS credentials/u,
    );
    assert.doesNotMatch(inspect(error, { depth: 10 }), /web-token-sesame|SECRET-BODY/u);
    assert.equal(server.requests().length, 0);
  });

  for (const variable of ['AWS_CONTAINER_CREDENTIALS_FULL_URI', 'AWS_EC2_METADATA_SERVICE_ENDPOINT'])
    it(`are a failure that passes when whoever ${variable} names is busy, not a reason to go on without`, async () => {
      const busy = await bench.serve(
        startServer((_, response) => {
          response.writeHead(503).end();
        }),
      );
      process.env[variable] = busy.url;
      const server = await serve({});
      await fails((await open(server)).probe(), 'SourceUnavailable', /^the ambient AWS credentials/u);
      assert.equal(server.requests().length, 0);
      assert.ok(busy.requests().length > 0);
    });

  for (const [what, token] of [
    ['an instance without a role', 200],
    ['an instance whose metadata service is switched off', 403],
  ] as const)
    it(`are none of ${what}`, async () => {
      const metadata = await bench.serve(
        startServer(({ url }, response) => {
          response.writeHead(url === '/latest/api/token' ? token : token === 200 ? 404 : token).end('token');
        }),
      );
      process.env['AWS_EC2_METADATA_SERVICE_ENDPOINT'] = metadata.url;
      await readsAll(await bench.serve(startS3Server({ store, isPublic: true })));
    });

  it('are none of a profile that only names a region, and a failure that passes of one whose program fails', async () => {
    const profiles =
      '[profile abroad]\nregion = eu-west-3\n[profile told]\nregion = eu-west-3\ncredential_process = false\n';
    writeFileSync(join(directory, 'config'), profiles);
    process.env['AWS_PROFILE'] = 'abroad';
    const server = await bench.serve(startS3Server({ store, isPublic: true }));
    await readsAll(server);
    process.env['AWS_PROFILE'] = 'told';
    await fails((await open(server)).probe(), 'SourceUnavailable', /^the ambient AWS credentials/u);
  });

  it('are those of the instance where the environment says where they are', async () => {
    const metadata = await bench.serve(
      startServer((request, response) => {
        const answers: Record<string, string> = {
          '/latest/api/token': 'metadata-token',
          '/latest/meta-data/iam/security-credentials/': 'importer',
          '/latest/meta-data/iam/security-credentials/importer': JSON.stringify({
            Code: 'Success',
            AccessKeyId: 'AKIDEC2',
            SecretAccessKey: 'sesame',
            Token: 'ec2',
            Expiration: IN_AN_HOUR(),
          }),
        };
        response.end(answers[request.url ?? '']);
      }),
    );
    process.env['AWS_EC2_METADATA_SERVICE_ENDPOINT'] = metadata.url;
    await readsAll(await serve({ AKIDEC2: 'sesame' }, { AKIDEC2: 'ec2' }));
  });

  it('are none where there are none: requests are anonymous then, and no metadata service is looked for', async function () {
    if (existsSync(VENDOR) && readFileSync(VENDOR, 'utf8').startsWith('Amazon')) this.skip();
    const server = await bench.serve(startS3Server({ store, isPublic: true }));
    await readsAll(server);
    assert.ok(server.requests().every(({ path }) => path === '/images/disk.img'));
    assert.equal(process.env['AWS_EC2_METADATA_DISABLED'], 'true', 'the switch of the SDK');
  });
});
