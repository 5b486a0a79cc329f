import assert from 'node:assert/strict';
import { createAsyncDisposables, createDisposables } from '../../activities/disposables.js';

describe('what is disposed of together', () => {
  const ended: string[] = [];
  const sync = (name: string): Disposable => ({ [Symbol.dispose]: () => void ended.push(name) });
  const async = (name: string): AsyncDisposable => ({
    async [Symbol.asyncDispose]() {
      await Promise.resolve();
      ended.push(name);
    },
  });
  beforeEach(() => void (ended.length = 0));

  it('is ended once, the last first', async () => {
    {
      using all = createDisposables();
      all.use(sync('first'));
      assert.equal(
        all.adopt('second', (name) => void ended.push(name)),
        'second',
      );
    }
    assert.deepEqual(ended.splice(0), ['second', 'first']);
    {
      await using all = createAsyncDisposables();
      all.use(async('first'));
      all.defer(() => ended.push('second'));
    }
    assert.deepEqual(ended, ['second', 'first']);
  });

  it('belongs to whom it was moved to', async () => {
    const moved: Disposable[] = [];
    {
      using all = createDisposables();
      all.use(sync('one'));
      moved.push(all.move());
    }
    assert.deepEqual(ended, []);
    moved[0]?.[Symbol.dispose]();
    assert.deepEqual(ended.splice(0), ['one']);
    const later: AsyncDisposable[] = [];
    {
      await using all = createAsyncDisposables();
      all.use(async('one'));
      later.push(all.move());
    }
    assert.deepEqual(ended, []);
    await later[0]?.[Symbol.asyncDispose]();
    assert.deepEqual(ended, ['one']);
  });

  it('is ended to the end where one of it fails', async () => {
    const failing = (): never => {
      throw new Error('does not end');
    };
    const all = createDisposables();
    all.use(sync('first'));
    all.adopt('second', failing);
    assert.throws(() => all[Symbol.dispose](), /does not end/);
    const others = createAsyncDisposables();
    others.use(async('other'));
    others.defer(failing);
    await assert.rejects(async () => await others[Symbol.asyncDispose](), /does not end/);
    assert.deepEqual(ended, ['first', 'other']);
  });
});
