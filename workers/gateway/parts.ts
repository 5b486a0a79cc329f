import type { Logger } from '@temporalio/common';
import type { Kubernetes } from '../../activities/kubernetes/client.js';
import type { Metrics } from '../metrics/index.js';
import type { DataPortTls } from './data-port.js';
import type { FrontProxy } from './front-proxy.js';
import type { LocateUpload, OpenUpload } from './open-upload.js';
import type { Tokens } from './tokens.js';
import type { UploadClaim } from './upload-claims.js';
import type { UploadSlots } from './upload-slots.js';

/** What the routes of the gateway are made of; each may be another one in a test. */
export interface GatewayParts {
  readonly kubernetes: Pick<Kubernetes, 'core' | 'custom' | 'authorization'>;
  readonly tokens: Tokens;
  readonly openUpload: OpenUpload;
  readonly locateUpload: LocateUpload;
  /** A client waits so long for what becomes of a file whose last byte has come, in ms. @default 20_000 */
  readonly verdictMs?: number;
  /** Session that has filled a claim; undefined where that is not known any more. */
  readonly finishedSession: (claim: UploadClaim) => Promise<string | undefined>;
  readonly slots: UploadSlots;
  readonly logger: Pick<Logger, 'info' | 'warn' | 'error'>;
  readonly metrics?: Metrics;
  /** As they are now: certificates are renewed. */
  readonly dataPortTls: () => DataPortTls;
  /** How the front proxy proves itself; undefined while that is not known. */
  readonly frontProxy: () => FrontProxy | undefined;
}
