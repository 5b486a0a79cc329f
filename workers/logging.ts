import { DefaultLogger, makeTelemetryFilterString, Runtime, type Logger } from '@temporalio/worker';
import { pino, stdSerializers } from 'pino';
import type { LogLevel } from './config.js';
import { histogramBuckets } from './metrics/catalogue.js';

const PINO_LEVELS = { TRACE: 'trace', DEBUG: 'debug', INFO: 'info', WARN: 'warn', ERROR: 'error' } as const;

/**
 * One JSON stream on standard error for worker, workflows, activities and Temporal's core, with constant messages and fields.
 * pino behind Temporal's `Logger`, whose argument order is the other way round.
 */
export function createLogger(level: LogLevel, bindings: Record<string, string>): Logger {
  const root = pino(
    { level, base: bindings, serializers: { err: stdSerializers.err, error: stdSerializers.err } },
    pino.destination({ dest: 2, sync: true }),
  );
  return new DefaultLogger('TRACE', (entry) =>
    root[PINO_LEVELS[entry.level]](entry.meta ?? {}, entry.message),
  );
}

/** Installs Temporal's runtime: once a process, before any connection. */
export function installRuntime(logger: Logger, metricsAddress: string | undefined): void {
  Runtime.install({
    logger,
    telemetryOptions: {
      logging: { forward: {}, filter: makeTelemetryFilterString({ core: 'WARN' }) },
      ...(metricsAddress === undefined
        ? {}
        : {
            metrics: {
              // the instance is Prometheus' own label
              attachServiceName: false,
              prometheus: {
                bindAddress: metricsAddress,
                countersTotalSuffix: true,
                unitSuffix: true,
                useSecondsForDurations: true,
                histogramBucketOverrides: histogramBuckets(),
              },
            },
          }),
    },
  });
}
