import { asyncLocalStorage } from '@temporalio/activity';

/** Says in the worker's log what an activity goes on in spite of; nothing outside of one. */
export function warn(message: string, attributes: Readonly<Record<string, unknown>>): void {
  asyncLocalStorage.getStore()?.log.warn(message, { ...attributes });
}
