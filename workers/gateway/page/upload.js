/* global tus, document, window, location, history, localStorage, sessionStorage, fetch, atob, setInterval */
// The upload page: one file into the claim of one token, by the tus protocol. What is durable is asked of the server, so that a
// connection that breaks, a pause and a reload all go on where the disk is.
'use strict';

const RENEW_MS = 120_000;
/** A token that ends so soon, or has ended while the machine slept, is renewed before it is sent, in ms. */
const SOON_MS = 60_000;
/** Tries again after these, in ms, from the first one after each byte that arrived. */
const RETRY_MS = [0, 500, 1_000, 2_000, ...Array.from({ length: 200 }, () => 5_000)];

const element = (id) => document.getElementById(id);
const KEY = 'dvflow-upload-token';
let token = '';
let upload;
let started = { at: 0, bytes: 0 };

function say(text, kind = '') {
  element('message').textContent = text;
  element('message').className = kind;
}

/** What the token says; the server alone judges it. */
function claimsOf(text) {
  try {
    const [, payload = ''] = text.split('.');
    return JSON.parse(atob(payload.replaceAll('-', '+').replaceAll('_', '/')));
  } catch {
    return undefined;
  }
}

function useToken(text) {
  const claims = claimsOf(text);
  if (!claims?.name) return say('This is no upload token.', 'error');
  token = text;
  // of this tab alone: a reload goes on with it
  sessionStorage.setItem(KEY, token);
  element('claim').textContent = `Into claim ${claims.name} of namespace ${claims.namespace}.`;
  element('token-form').hidden = true;
  element('choose').hidden = false;
  say('');
}

function askForToken(reason) {
  sessionStorage.removeItem(KEY);
  element('token-form').hidden = false;
  say(reason, 'error');
}

async function renewToken() {
  if (token === '') return;
  const headers = { Authorization: `Bearer ${token}` };
  const answer = await fetch('../v1beta1/upload-token', { method: 'POST', headers }).catch(() => undefined);
  if (!answer?.ok) return;
  ({ token } = await answer.json());
  sessionStorage.setItem(KEY, token);
}

/** One claim's upload is not another's, although the file is the same. */
function keyOf(file) {
  const { dvflow = {} } = claimsOf(token) ?? {};
  const claim = dvflow.claimUid ?? dvflow.dataVolumeUid ?? '';
  return ['dvflow', claim, file.name, file.size, file.lastModified].join('-');
}

/** Address of the unfinished upload, for a page that is loaded again; a browser may keep nothing. */
function remembered(key) {
  try {
    return localStorage.getItem(key) ?? undefined;
  } catch {
    return undefined;
  }
}

function remember(key, url) {
  try {
    if (url) localStorage.setItem(key, url);
    else localStorage.removeItem(key);
  } catch {
    // then a page that is loaded again begins anew
  }
}

async function authorize(request) {
  if ((claimsOf(token)?.exp ?? Infinity) * 1000 - Date.now() < SOON_MS) await renewToken();
  request.setHeader('Authorization', `Bearer ${token}`);
}

function reasonOf(response) {
  // an answer to HEAD has no body
  return decodeURIComponent(response?.getHeader('Dvflow-Reason') ?? '') || response?.getBody() || '';
}

function createUpload(file) {
  const key = keyOf(file);
  const known = remembered(key);
  const made = new tus.Upload(file, {
    // with both, any answer to HEAD but 2xx and 423 would begin another upload, and cost what has arrived
    ...(known ? { uploadUrl: known } : { endpoint: new URL('../tus/uploads', location.href).href }),
    metadata: { filename: file.name },
    retryDelays: RETRY_MS,
    storeFingerprintForResuming: false,
    onUploadUrlAvailable: () => {
      remember(key, made.url);
      made.options.endpoint = null;
    },
    onBeforeRequest: authorize,
    onShouldRetry: (error) => {
      const status = error.originalResponse?.getStatus() ?? 0;
      const again = status < 400 || status >= 500 || [408, 409, 423, 429].includes(status);
      if (again && status === 423) say('Waiting until the server can go on, or has verified the disk.');
      else if (again)
        say(`${reasonOf(error.originalResponse) || 'The connection is lost'}: trying again.`, 'error');
      return again;
    },
    onProgress: showProgress,
    onError: (error) => {
      const status = error.originalResponse?.getStatus() ?? 0;
      const { url } = made;
      // only what is gone is begun anew
      const gone = url && (status === 404 || status === 410);
      if (gone || (status === 400 && error.originalRequest?.getMethod() === 'HEAD')) remember(key);
      if (gone && known) begin(file);
      else fail(error);
    },
    onSuccess: () => {
      remember(key);
      element('transfer').hidden = true;
      sessionStorage.removeItem(KEY);
      say(`Complete: the disk is whole, verified and synced (${bytes(file.size)}).`, 'done');
    },
  });
  return made;
}

function begin(file) {
  if (!file) return;
  if (file.size === 0) return say('The file is empty.', 'error');
  element('choose').hidden = true;
  element('transfer').hidden = false;
  element('name').textContent = file.name;
  element('progress').value = 0;
  say('');
  upload = createUpload(file);
  run();
}

function run() {
  started = { at: Date.now(), bytes: undefined };
  element('pause').textContent = 'Pause';
  upload.start();
}

function showProgress(sent, total) {
  started.bytes ??= sent;
  const seconds = (Date.now() - started.at) / 1000;
  const rate = seconds > 1 ? (sent - started.bytes) / seconds : 0;
  element('progress').value = total > 0 ? sent / total : 0;
  const percent = total > 0 ? ((100 * sent) / total).toFixed(1) : '0.0';
  const speed = rate > 0 ? `, ${bytes(rate)}/s` : '';
  element('figures').textContent = `${percent}%: ${bytes(sent)} of ${bytes(total)}${speed}`;
  if (element('message').className === 'error') say('');
  if (sent === total) say('Sent; the disk is being verified and synced.');
}

function fail(error) {
  const response = error.originalResponse;
  const status = response?.getStatus() ?? 0;
  element('pause').textContent = 'Resume';
  if (status === 401)
    return askForToken('The token is too old or for another claim: paste a new one, then resume.');
  if (status >= 400) {
    element('choose').hidden = false;
    element('transfer').hidden = true;
    return say(reasonOf(response) || `The server answered ${status}.`, 'error');
  }
  say(`The connection is lost (${error.message}). Resume goes on where the disk is.`, 'error');
}

async function pauseOrResume() {
  if (element('pause').textContent === 'Resume') {
    say('');
    return run();
  }
  await upload.abort();
  element('pause').textContent = 'Resume';
  say('Paused. What has arrived is kept.');
}

function bytes(count) {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const power = count < 1 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(count) / 10));
  return `${(count / 1024 ** power).toFixed(power === 0 ? 0 : 1)} ${units[power]}`;
}

/** A link may carry the token behind `#`, which no server sees and the address bar need not keep. */
function tokenOfLink() {
  const found = new URLSearchParams(location.hash.slice(1)).get('token');
  if (found) history.replaceState(null, '', location.pathname);
  return found;
}

element('token-form').addEventListener('submit', (event) => {
  event.preventDefault();
  useToken(element('token').value.trim());
});
element('file').addEventListener('change', (event) => begin(event.target.files[0]));
element('pause').addEventListener('click', () => void pauseOrResume());
for (const name of ['dragenter', 'dragover', 'dragleave', 'drop']) {
  element('drop').addEventListener(name, (event) => {
    event.preventDefault();
    element('drop').classList.toggle('over', name === 'dragenter' || name === 'dragover');
    if (name === 'drop') begin(event.dataTransfer.files[0]);
  });
}
// a file that is dropped beside the field must not replace the page
for (const name of ['dragover', 'drop']) window.addEventListener(name, (event) => event.preventDefault());
setInterval(() => void renewToken(), RENEW_MS);
const known = tokenOfLink() ?? sessionStorage.getItem(KEY);
if (known) {
  useToken(known);
  void renewToken();
}
