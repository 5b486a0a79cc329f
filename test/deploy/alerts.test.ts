/** Each alert on made-up series, by `promtool test rules`: it fires on what it is for, and a healthy cluster is quiet. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { projectPath } from '../docs/documents.js';
import { alertRules } from '../support/monitoring.js';
import { promtool } from '../support/prometheus.js';

/** Values a minute, in promtool's notation, by series. */
type SeriesByName = Readonly<Record<string, string>>;

const FAILURES = 'dvflow_workflow_failures_total{workflow_type="importDataVolume",type=';
const WAIT = 'dvflow_queue_wait_seconds_bucket{queue="transfer",le=';
const POOL = '{node="n",pool="/p"}';
const CLASS = '{storageclass="c",provisioner="p"}';
const CONTROL = '{instance="c"}';
const NODE = '{instance="n"}';

/** promtool repeats figures, and NaN is none. */
const GONE = ' NaN'.repeat(80);

/** Three hours of a cluster that does its work. */
const HEALTHY: SeriesByName = {
  'dvflow_build_info{role="control",version="1"}': '1x180',
  'dvflow_build_info{role="node",version="1"}': '1x180',
  [`dvflow_sweep_silent_nodes${CONTROL}`]: '0x180',
  // the time itself, ten minutes old at most
  [`dvflow_sweep_end_timestamp_seconds${CONTROL}`]: '0+60x180',
  [`${FAILURES}"SourceNotFound"}`]: '0+1x10 10x170',
  [`${FAILURES}"ImageHostile"}`]: '0x180',
  [`${FAILURES}"NoSpace"}`]: '0x180',
  'temporal_workflow_completed_total{workflow_type="importDataVolume"}': '0+2x180',
  'dvflow_activity_failures_total{queue="control",type="SourceUnavailable"}': '0+1x180',
  [`${WAIT}"1"}`]: '0+1x180',
  [`${WAIT}"1800"}`]: '0+1x180',
  [`${WAIT}"+Inf"}`]: '0+1x180',
  [`dvflow_active_transfers${NODE}`]: '1x180',
  [`dvflow_transfer_read_bytes_total{instance="n",plan="ranged"}`]: '0+1000x180',
  [`dvflow_transfer_written_bytes_total{instance="n",plan="ranged"}`]: '0+1000x180',
  [`dvflow_pool_room_bytes${POOL}`]: '500x180',
  [`dvflow_pool_capacity_bytes${POOL}`]: '1000x180',
  [`dvflow_pool_usable${POOL}`]: '1x180',
  [`dvflow_pool_shared_with_os${POOL}`]: '0x180',
  'dvflow_leaked_objects_found_total{kind="Directory"}': '0+1x180',
  'dvflow_leaked_objects_removed_total{kind="Directory"}': '0+1x180',
  dvflow_cleanup_deferred_total: '0x180',
  [`dvflow_progress_round_seconds${CONTROL}`]: '1x180',
  [`dvflow_storage_profile_incomplete${CLASS}`]: '0x180',
};

/** What goes wrong, by the alert that tells it; `_` is a series that is not there. */
const BROKEN: Readonly<Record<string, SeriesByName>> = {
  DvflowControlDown: { 'dvflow_build_info{role="control",version="1"}': '1x100 _x80' },
  DvflowNodeSilent: { [`dvflow_sweep_silent_nodes${CONTROL}`]: '0x100 1x80' },
  DvflowSweeperLate: { [`dvflow_sweep_end_timestamp_seconds${CONTROL}`]: '0+60x100 6000x80' },
  DvflowImportsFail: { [`${FAILURES}"SourceNotFound"}`]: '0x100 0+5x80' },
  DvflowClusterFailsImports: { [`${FAILURES}"NoSpace"}`]: '0x175 1x5' },
  DvflowHostileImage: { [`${FAILURES}"ImageHostile"}`]: '0x175 1x5' },
  DvflowAttemptsFail: {
    'dvflow_activity_failures_total{queue="control",type="SourceUnavailable"}': '0+3x180',
  },
  DvflowTransfersQueue: { [`${WAIT}"1"}`]: '0x180' },
  DvflowTransfersStall: {
    [`dvflow_transfer_read_bytes_total{instance="n",plan="ranged"}`]: '0+1000x100 100000x80',
    [`dvflow_transfer_written_bytes_total{instance="n",plan="ranged"}`]: '0+1000x100 100000x80',
  },
  DvflowPoolNearlyFull: { [`dvflow_pool_room_bytes${POOL}`]: '99x180' },
  DvflowPoolUnusable: { [`dvflow_pool_usable${POOL}`]: '1x170 0x10' },
  DvflowPoolSharedWithOs: { [`dvflow_pool_shared_with_os${POOL}`]: '1x180' },
  DvflowLeakedObjects: { 'dvflow_leaked_objects_removed_total{kind="Directory"}': '0x180' },
  DvflowCleanupDeferred: { dvflow_cleanup_deferred_total: '0x175 1x5' },
  DvflowProgressSlow: { [`dvflow_progress_round_seconds${CONTROL}`]: '8x180' },
  DvflowStorageProfileIncomplete: { [`dvflow_storage_profile_incomplete${CLASS}`]: '1x180' },
  DvflowVersionsDiffer: { 'dvflow_build_info{role="node",version="2"}': '1x180' },
};

describe('alerts on made-up series', () => {
  let directory: string;
  before(async () => {
    directory = await mkdtemp(join(tmpdir(), 'dvflow-alerts-'));
  });
  after(() => rm(directory, { recursive: true, force: true }));

  /** Asserts which alerts fire after three hours of these series. */
  async function assertFiring(series: SeriesByName, alerts: readonly string[]): Promise<void> {
    const test = {
      rule_files: [projectPath('deploy/monitoring/alerts.yaml')],
      evaluation_interval: '1m',
      tests: [
        {
          interval: '1m',
          input_series: Object.entries(series).map(([name, values]) => ({ series: name, values })),
          promql_expr_test: [
            {
              expr: 'count by (alertname) (ALERTS{alertstate="firing"})',
              eval_time: '180m',
              exp_samples: alerts.map((alertname) => ({ labels: `{alertname="${alertname}"}`, value: 1 })),
            },
          ],
        },
      ],
    };
    const path = join(directory, 'test.yaml');
    await writeFile(path, JSON.stringify(test));
    await promtool(['test', 'rules', path]);
  }

  it('a healthy cluster is quiet', () => assertFiring(HEALTHY, []));

  it('every alert is tried', () => {
    assert.deepEqual(
      Object.keys(BROKEN),
      alertRules().map(({ alert }) => alert),
    );
  });

  for (const [alert, series] of Object.entries(BROKEN)) {
    it(`${alert} fires, and no other`, () => assertFiring({ ...HEALTHY, ...series }, [alert]));
  }

  for (const [when, values] of [
    ['half an hour ago', '0+60x100 6000x50 _x30'],
    ['long ago', '0+60x100 _x80'],
    ['before the first sweep', '_x180'],
  ] as const) {
    it(`DvflowSweeperLate fires where control was restarted ${when} and no sweep has ended since`, () =>
      assertFiring({ ...HEALTHY, [`dvflow_sweep_end_timestamp_seconds${CONTROL}`]: values }, [
        'DvflowSweeperLate',
      ]));
  }

  it('a control role that came back half an hour ago has not swept late', () =>
    assertFiring(
      {
        ...HEALTHY,
        'dvflow_build_info{role="control",version="1"}': '1x60 _x90 1x30',
        [`dvflow_sweep_end_timestamp_seconds${CONTROL}`]: '0+60x60 _x120',
      },
      [],
    ));

  it('a pool that no HostPathProvisioner names any more is quiet, whatever its directory is like', () =>
    assertFiring(
      {
        ...HEALTHY,
        [`dvflow_pool_usable${POOL}`]: `1x100${GONE}`,
        [`dvflow_pool_room_bytes${POOL}`]: `500x100${GONE}`,
        [`dvflow_pool_shared_with_os${POOL}`]: `0x100${GONE}`,
      },
      [],
    ));
});
