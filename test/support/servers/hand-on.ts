import { request as httpRequest } from 'node:http';
import type { IncomingMessage, ServerResponse } from 'node:http';

/** Lets the server at `url` answer a request, whoever was asked: it sees the host name that was. */
export function handOn(request: IncomingMessage, response: ServerResponse, url: URL): void {
  const { 'proxy-authorization': _login, ...headers } = request.headers;
  const onward = httpRequest(url, { method: request.method, headers });
  onward.on('response', (answer) => {
    response.writeHead(answer.statusCode ?? 502, answer.headers);
    answer.on('error', () => response.destroy()).pipe(response);
  });
  onward.on('error', () => response.destroy());
  response.on('close', () => onward.destroy());
  request.pipe(onward);
}
