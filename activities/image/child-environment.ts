import { availableParallelism } from 'node:os';
import type { ChildJob } from './child-protocol.js';

/** libuv's threads beside one a core, which decoders may have all: reads, writes and names do not wait behind those. */
const BESIDE_DECODERS = 4;

/** What a process needs to run. */
const PLAIN = ['PATH', 'TMPDIR', 'SSL_CERT_FILE', 'SSL_CERT_DIR'] as const;

/**
 * What the AWS SDK's default chain of credentials reads, and the places where it then asks: keys of the environment, the shared
 * files, web identity, container and instance (AWS SDKs Reference Guide, "Environment variables").
 */
const AWS = [
  'HOME',
  'AWS_ACCESS_KEY_ID',
  'AWS_SECRET_ACCESS_KEY',
  'AWS_SESSION_TOKEN',
  'AWS_CREDENTIAL_EXPIRATION',
  'AWS_PROFILE',
  'AWS_SHARED_CREDENTIALS_FILE',
  'AWS_CONFIG_FILE',
  'AWS_WEB_IDENTITY_TOKEN_FILE',
  'AWS_ROLE_ARN',
  'AWS_ROLE_SESSION_NAME',
  'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI',
  'AWS_CONTAINER_CREDENTIALS_FULL_URI',
  'AWS_CONTAINER_AUTHORIZATION_TOKEN',
  'AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE',
  'AWS_EC2_METADATA_DISABLED',
  'AWS_EC2_METADATA_SERVICE_ENDPOINT',
  'AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE',
  'AWS_REGION',
  'AWS_DEFAULT_REGION',
  'AWS_STS_REGIONAL_ENDPOINTS',
  'AWS_ENDPOINT_URL',
  'AWS_ENDPOINT_URL_STS',
] as const;

/**
 * Environment of the process that moves bytes. The worker's own settings may hold keys, so it gets none of them; but for a
 * request that is to use the worker's AWS credentials it gets just what those are found by.
 */
export function childEnvironment(
  request: (Pick<NonNullable<ChildJob['request']>, 'kind'> & { readonly ambient?: boolean }) | undefined,
  env: NodeJS.ProcessEnv = process.env,
): NodeJS.ProcessEnv {
  const ambient = request?.kind === 's3' && request.ambient === true;
  const names: readonly string[] = [...PLAIN, ...(ambient ? AWS : [])];
  return {
    UV_THREADPOOL_SIZE: `${availableParallelism() + BESIDE_DECODERS}`,
    ...Object.fromEntries(names.flatMap((name) => (env[name] ? [[name, env[name]]] : []))),
  };
}
