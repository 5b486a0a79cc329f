import assert from 'node:assert/strict';
import dns from 'node:dns';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { mock } from 'node:test';
import { startServer } from '../../support/servers/index.js';
import type { RunningServer } from '../../support/servers/index.js';
import { fails, useBench } from './open.js';

describe('ambient credentials of an S3 source that cannot be had', function () {
  this.timeout(60_000);
  const bench = useBench();
  let directory: string;
  let outside: NodeJS.ProcessEnv;
  const forget = (): void => {
    for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name];
  };
  beforeEach(() => {
    directory = mkdtempSync(join(tmpdir(), 'dvflow-aws-'));
    outside = { ...process.env };
    forget();
    Object.assign(process.env, {
      AWS_CONFIG_FILE: join(directory, 'config'),
      AWS_SHARED_CREDENTIALS_FILE: join(directory, 'credentials'),
      AWS_MAX_ATTEMPTS: '1',
    });
  });
  afterEach(() => {
    mock.restoreAll();
    forget();
    Object.assign(process.env, outside);
    rmSync(directory, { recursive: true });
  });

  const open = async ({ url }: Pick<RunningServer, 'url'>) =>
    (
      await bench.openRequest(
        { kind: 's3', url: `${url}/images/disk.img`, ambient: true },
        { maxReconnects: 0 },
      )
    ).source;
  function useWebIdentity(): void {
    writeFileSync(join(directory, 'token'), 'web-token-sesame');
    process.env['AWS_WEB_IDENTITY_TOKEN_FILE'] = join(directory, 'token');
    process.env['AWS_ROLE_ARN'] = 'arn:aws:iam::123456789012:role/importer';
  }

  for (const [code, status, type] of [
    ['Throttling', 400, 'SourceUnavailable'],
    ['TooManyRequestsException', 400, 'SourceUnavailable'],
    ['IDPCommunicationError', 400, 'SourceUnavailable'],
    ['ExpiredTokenException', 400, 'SourceUnavailable'],
    ['Unheard', 408, 'SourceUnavailable'],
    ['Unheard', 429, 'SourceUnavailable'],
    ['Unheard', 400, 'SourceForbidden'],
    ['InvalidIdentityToken', 400, 'SourceForbidden'],
  ] as const)
    it(`are ${type} where STS answers ${status} ${code}`, async () => {
      useWebIdentity();
      const sts = await bench.serve(
        startServer((_, response) => {
          response
            .writeHead(status, { 'content-type': 'text/xml' })
            .end(
              `<ErrorResponse><Error><Code>${code}</Code><Message>sesame</Message></Error></ErrorResponse>`,
            );
        }),
      );
      process.env['AWS_ENDPOINT_URL_STS'] = sts.url;
      await fails((await open(sts)).probe(), type, /^the ambient AWS credentials/u);
    });

  for (const [variables, host] of [
    [{}, 'sts.us-east-1.amazonaws.com'],
    [{ AWS_REGION: 'eu-west-1', AWS_DEFAULT_REGION: 'eu-west-2' }, 'sts.eu-west-1.amazonaws.com'],
    [{ AWS_DEFAULT_REGION: 'us-gov-west-1' }, 'sts.us-gov-west-1.amazonaws.com'],
  ] as const)
    it(`are asked for in the region of the environment: ${host}`, async () => {
      useWebIdentity();
      Object.assign(process.env, variables);
      const asked: string[] = [];
      const lookup = (name: string, ...rest: unknown[]): void => {
        asked.push(name);
        const done = rest.at(-1) as (error: Error) => void;
        process.nextTick(() => done(Object.assign(new Error('no such name'), { code: 'ENOTFOUND' })));
      };
      mock.method(dns, 'lookup', lookup as unknown as typeof dns.lookup);
      await fails((await open({ url: 'http://127.0.0.1:1' })).probe(), 'SourceUnavailable', /ENOTFOUND/u);
      assert.deepEqual([...new Set(asked)], [host]);
    });

  it('say which file cannot be read', async () => {
    process.env['AWS_WEB_IDENTITY_TOKEN_FILE'] = join(directory, 'absent');
    process.env['AWS_ROLE_ARN'] = 'arn:aws:iam::123456789012:role/importer';
    await fails(
      (await open({ url: 'http://127.0.0.1:1' })).probe(),
      'SourceUnavailable',
      new RegExp(`cannot be had: Error \\(ENOENT, ${directory}/absent\\)$`, 'u'),
    );
  });

  it('are read anew from shared files that were rotated', async () => {
    let good = 'AKIDOLD';
    const server = await bench.serve(
      startServer(({ url = '' }, response) => {
        const key = new URL(url, 'http://s3').searchParams.get('X-Amz-Credential')?.split('/')[0];
        response.writeHead(key === good ? 200 : 403, { 'content-length': 5 }).end('bytes');
      }),
    );
    for (good of ['AKIDOLD', 'AKIDNEW']) {
      const keys = `aws_access_key_id = ${good}\naws_secret_access_key = sesame\n`;
      writeFileSync(join(directory, 'credentials'), `[default]\n${keys}`);
      assert.equal((await (await open(server)).probe()).head.toString(), 'bytes');
    }
  });
});
