/**
 * Lets Node run the sources as they are: it strips types itself, and only has to be told that `./x.js` is `./x.ts` here. What it has
 * stripped and compiled is kept, for the threads and processes that tests start by the hundred.
 */
import { enableCompileCache, registerHooks } from 'node:module';

enableCompileCache();
registerHooks({
  resolve(specifier, context, next) {
    const fromSource = specifier.startsWith('.') && context.parentURL?.endsWith('.ts');
    if (!fromSource || !specifier.endsWith('.js')) return next(specifier, context);
    try {
      return next(`${specifier.slice(0, -'.js'.length)}.ts`, context);
    } catch (error) {
      if (error.code !== 'ERR_MODULE_NOT_FOUND') throw error;
      return next(specifier, context);
    }
  },
});
