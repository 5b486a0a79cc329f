import {
  HttpMethod,
  IsomorphicFetchHttpLibrary,
  RequestContext,
  type KubeConfig,
} from '@kubernetes/client-node';

/** Objects in one answer of the API server. */
const PAGE = 500;

/** A list that takes longer is given up, in ms. */
const LIST_TIMEOUT_MS = 60_000;

/** The resource version that was asked for is too old: only a new list helps. */
export class StaleVersionError extends Error {
  override readonly name = 'StaleVersionError';
}

interface ListAnswer<T> {
  readonly items?: readonly T[] | null;
  readonly metadata: { readonly resourceVersion?: string; readonly continue?: string };
}

/** Lists objects as raw JSON, so that they look the same as those of a watch. */
export function createLister<T>(
  kubeConfig: KubeConfig,
  path: string,
): { list(signal: AbortSignal): Promise<{ items: readonly T[]; resourceVersion: string }> } {
  const http = new IsomorphicFetchHttpLibrary();

  async function page(signal: AbortSignal, token: string | undefined): Promise<ListAnswer<T>> {
    const cluster = kubeConfig.getCurrentCluster();
    if (!cluster) throw new Error('the kubeconfig names no cluster');
    const url = new URL(cluster.server + path);
    url.searchParams.set('limit', String(PAGE));
    if (token) url.searchParams.set('continue', token);
    const request = new RequestContext(url.toString(), HttpMethod.GET);
    request.setSignal(AbortSignal.any([signal, AbortSignal.timeout(LIST_TIMEOUT_MS)]));
    await kubeConfig.applySecurityAuthentication(request);
    const response = await http.send(request).toPromise();
    const text = await response.body.text();
    if (response.httpStatusCode === 410) throw new StaleVersionError(text.slice(0, 500));
    if (response.httpStatusCode !== 200) {
      throw new Error(`listing ${path}: HTTP ${response.httpStatusCode}: ${text.slice(0, 500)}`);
    }
    return JSON.parse(text) as ListAnswer<T>;
  }

  async function list(signal: AbortSignal): Promise<{ items: readonly T[]; resourceVersion: string }> {
    const items: T[] = [];
    for (let token: string | undefined; ;) {
      const answer = await page(signal, token);
      items.push(...(answer.items ?? []));
      token = answer.metadata.continue;
      if (!token) return { items, resourceVersion: answer.metadata.resourceVersion ?? '' };
    }
  }
  return { list };
}
