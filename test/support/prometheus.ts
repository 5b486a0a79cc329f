/** A real Prometheus of Debian's package, on loopback, with its data in a directory of its own. */
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { freePort } from './free-port.js';

/** One series of an answer, with its newest value. */
export interface Sample {
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

/** A running Prometheus. */
export interface Prometheus {
  /** Evaluates an expression now. @throws Error with Prometheus' own words where it cannot be evaluated */
  query(expression: string): Promise<readonly Sample[]>;
  /** Health of the targets by job: `up`, or what was wrong with the last scrape. */
  targets(): Promise<ReadonlyMap<string, string>>;
  close(): Promise<void>;
}

/** Scrapes these addresses (`host:port` by job) once a second. */
export async function startPrometheus(
  jobs: Readonly<Record<string, string>>,
  ruleFiles: readonly string[] = [],
): Promise<Prometheus> {
  const directory = await mkdtemp(join(tmpdir(), 'dvflow-prometheus-'));
  const configuration = {
    global: { scrape_interval: '1s', scrape_timeout: '1s', evaluation_interval: '1s' },
    rule_files: ruleFiles,
    scrape_configs: Object.entries(jobs).map(([job_name, target]) => ({
      job_name,
      static_configs: [{ targets: [target] }],
    })),
  };
  // JSON is YAML
  await writeFile(join(directory, 'prometheus.yml'), JSON.stringify(configuration));
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const server = spawn(
    'prometheus',
    [
      `--config.file=${join(directory, 'prometheus.yml')}`,
      `--storage.tsdb.path=${join(directory, 'data')}`,
      `--web.listen-address=127.0.0.1:${port}`,
      '--log.level=error',
    ],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  const close = async (): Promise<void> => {
    await end(server);
    await rm(directory, { recursive: true, force: true });
  };
  try {
    await ready(url, server);
  } catch (error) {
    await close();
    throw error;
  }
  return { query: (expression) => query(url, expression), targets: () => targets(url), close };
}

async function query(url: string, expression: string): Promise<readonly Sample[]> {
  const answer = await ask<{
    result: readonly { metric: Record<string, string>; value: [number, string] }[];
  }>(`${url}/api/v1/query?query=${encodeURIComponent(expression)}`);
  return answer.result.map(({ metric, value }) => ({ labels: metric, value: Number(value[1]) }));
}

async function targets(url: string): Promise<ReadonlyMap<string, string>> {
  const { activeTargets } = await ask<{
    activeTargets: readonly { labels: { job: string }; health: string; lastError: string }[];
  }>(`${url}/api/v1/targets`);
  return new Map(activeTargets.map(({ labels, health, lastError }) => [labels.job, lastError || health]));
}

async function ask<T>(address: string): Promise<T> {
  const answer = (await (await fetch(address)).json()) as { status: string; error?: string; data: T };
  if (answer.status !== 'success') throw new Error(answer.error ?? answer.status);
  return answer.data;
}

async function ready(url: string, server: ChildProcess): Promise<void> {
  const failed = new Promise<never>((_resolve, reject) => {
    server.once('error', reject);
    server.once('exit', (code) => reject(new Error(`prometheus ended with ${code}`)));
  });
  failed.catch(() => undefined);
  for (let left = 150; left > 0; left--) {
    const answer = await Promise.race([fetch(`${url}/-/ready`).catch(() => undefined), failed]);
    if (answer?.ok) return;
    await Promise.race([pause(200), failed]);
  }
  throw new Error('prometheus is not ready within 30 s');
}

async function end(server: ChildProcess): Promise<void> {
  if (server.exitCode !== null || server.signalCode !== null || server.pid === undefined) return;
  const ended = new Promise((resolve) => server.once('exit', resolve));
  server.kill('SIGTERM');
  await ended;
}

/** Runs promtool with a text on its standard input; its complaints are the error's message. */
export async function promtool(args: readonly string[], input = ''): Promise<string> {
  return await new Promise((resolve, reject) => {
    const child = execFile('promtool', [...args], (error, stdout, stderr) => {
      if (error) reject(new Error(`promtool ${args.join(' ')}: ${stdout}${stderr}`));
      else resolve(stdout + stderr);
    });
    child.stdin?.end(input);
  });
}
