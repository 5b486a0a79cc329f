/**
 * Does a step while the phase that it belongs to is being written: neither needs the other. However it ends, neither is under way any
 * more, since nobody may undo what somebody still does.
 */
export async function together<T>(written: Promise<void>, step: Promise<T>): Promise<T> {
  const [told, done] = await Promise.allSettled([written, step]);
  if (done.status === 'rejected') throw done.reason;
  if (told.status === 'rejected') throw told.reason;
  return done.value;
}
