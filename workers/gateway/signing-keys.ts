/** The keys that upload tokens are signed with: kept in one Secret by all replicas of the gateway, and changed from time to time. */
import { createPrivateKey, createPublicKey, generateKeyPair, type KeyObject } from 'node:crypto';
import { promisify } from 'node:util';
import type { V1Secret } from '@kubernetes/client-node';
import type { Logger } from '@temporalio/common';
import { call, callForOutcome, type Kubernetes } from '../../activities/kubernetes/client.js';
import { OWN_NAMESPACE } from '../../activities/kubernetes/names.js';

/** Secret of the keys; `deploy/` makes it empty, since the gateway may fill this one and create none. */
export const SIGNING_KEYS_SECRET = 'dvflow-upload-signing-keys';

/** A key signs for so long, in ms; the one before it is still believed, so that tokens which are under way stay good. */
const ROTATE_AFTER_MS = 30 * 86_400_000;

/** Another replica may have changed the keys: they are read again after this, in ms. */
const READ_AGAIN_MS = 60_000;

/** A token of an unknown signature makes the Secret be read at most this often, in ms: anybody can send one. */
const UNKNOWN_AGAIN_MS = 1_000;

/** RSA as CDI's own key is; a key of type `rsa-pss` is refused by jose. */
const generateRsa = promisify(generateKeyPair);
const MODULUS_BITS = 2048;

/** Members of the Secret. */
const CURRENT = 'current.pem';
const PREVIOUS = 'previous.pem';
const ROTATED_AT = 'rotated-at';

/** What is signed and verified with. */
export interface SigningKeys {
  /** The private key of new tokens. @throws {@link FailureType} `KubernetesUnavailable` when no key could be read yet */
  signing(): Promise<KeyObject>;
  /** Public keys that tokens are believed by, the current one first. */
  verifying(): Promise<readonly KeyObject[]>;
  /** Reads the Secret because a token was signed with none of the known keys; `false` where it was read just now. */
  refresh(): Promise<boolean>;
}

interface Keys {
  readonly current: KeyObject;
  readonly verifying: readonly KeyObject[];
  readonly rotatedAt: number;
  readonly readAt: number;
}

/** Options of {@link createSigningKeys}. */
export interface SigningKeyOptions {
  readonly kubernetes: Pick<Kubernetes, 'core'>;
  readonly logger: Pick<Logger, 'info' | 'warn'>;
  readonly namespace?: string;
  /** @default 30 days */
  readonly rotateAfterMs?: number;
  readonly now?: () => number;
}

/** Keeps the keys in the Secret; makes them where there are none, and new ones when they are old. */
export function createSigningKeys(options: SigningKeyOptions): SigningKeys {
  const { kubernetes, logger, namespace = OWN_NAMESPACE, now = Date.now } = options;
  const rotateAfterMs = options.rotateAfterMs ?? ROTATE_AFTER_MS;
  let known: Keys | undefined;
  let reading: Promise<Keys> | undefined;

  async function keys(): Promise<Keys> {
    if (known && now() - known.readAt < READ_AGAIN_MS) return known;
    return await read().catch((error: unknown) => {
      // the known keys stay good while the API server is away
      if (!known) throw error;
      logger.warn('the signing keys could not be read again', { error });
      return known;
    });
  }

  async function read(): Promise<Keys> {
    reading ??= readOnce().finally(() => (reading = undefined));
    return (known = await reading);
  }

  async function readOnce(): Promise<Keys> {
    for (;;) {
      const secret = await call(
        `reading Secret ${namespace}/${SIGNING_KEYS_SECRET}`,
        kubernetes.core.readNamespacedSecret({ namespace, name: SIGNING_KEYS_SECRET }),
      );
      const found = parse(secret, now());
      if (found && now() - found.rotatedAt < rotateAfterMs) return found;
      await write(secret, found);
    }
  }

  /** Whoever writes first has made the keys: a conflict means that they are there now. */
  async function write(secret: V1Secret, before: Keys | undefined): Promise<void> {
    const { privateKey } = await generateRsa('rsa', { modulusLength: MODULUS_BITS });
    const data = {
      [CURRENT]: encode(pemOf(privateKey)),
      ...(before ? { [PREVIOUS]: encode(pemOf(before.current)) } : {}),
      [ROTATED_AT]: encode(new Date(now()).toISOString()),
    };
    const written = await callForOutcome(
      `writing Secret ${namespace}/${SIGNING_KEYS_SECRET}`,
      kubernetes.core.replaceNamespacedSecret({
        namespace,
        name: SIGNING_KEYS_SECRET,
        body: { ...secret, data },
      }),
      [409],
    );
    if (typeof written !== 'string') logger.info('made a signing key', { first: before === undefined });
  }

  return {
    signing: async () => (await keys()).current,
    verifying: async () => (await keys()).verifying,
    async refresh() {
      if (known && now() - known.readAt < UNKNOWN_AGAIN_MS) return false;
      await read();
      return true;
    },
  };
}

/** The keys of a Secret; undefined where it holds none that can be used. */
function parse({ data }: V1Secret, readAt: number): Keys | undefined {
  const rotatedAt = Date.parse(decode(data?.[ROTATED_AT]));
  const current = privateKeyOf(decode(data?.[CURRENT]));
  if (!current || Number.isNaN(rotatedAt)) return undefined;
  const previous = privateKeyOf(decode(data?.[PREVIOUS]));
  const verifying = [current, ...(previous ? [previous] : [])].map((key) => createPublicKey(key));
  return { current, verifying, rotatedAt, readAt };
}

function privateKeyOf(pem: string): KeyObject | undefined {
  try {
    return createPrivateKey(pem);
  } catch {
    return undefined;
  }
}

function pemOf(key: KeyObject): string {
  return key.export({ type: 'pkcs8', format: 'pem' }) as string;
}

function encode(text: string): string {
  return Buffer.from(text).toString('base64');
}

function decode(base64: string | undefined): string {
  return Buffer.from(base64 ?? '', 'base64').toString();
}
