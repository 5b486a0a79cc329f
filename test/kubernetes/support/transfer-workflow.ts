import { proxyActivities } from '@temporalio/workflow';

const { transferImage } = proxyActivities<{ transferImage(): Promise<void> }>({
  startToCloseTimeout: '1m',
  heartbeatTimeout: '10s',
});

/** Waits in an activity of the transfer's name. */
export async function transferSomething(): Promise<void> {
  await transferImage();
}
