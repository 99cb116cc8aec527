// Requests and answers as JSON lines over stdin and stdout; events are lines without an id.

import { createInterface } from 'node:readline';

// Whatever a library prints must not end up between the answers.
console.log = console.error;

function write(line) {
  process.stdout.write(JSON.stringify(line) + '\n');
}

/** Tells the test something it did not ask for. */
export function emit(event, fields = {}) {
  write({ event, ...fields });
}

/** Names of errors survive the wire; so does whatever code they carry. */
export function errorJson(error) {
  return {
    name: error?.name ?? 'Error',
    message: error?.message ?? String(error),
    code: error?.code ?? null,
    stack: error?.stack ?? null,
  };
}

/** Answers requests with `methods`, concurrently, until stdin closes. */
export function serve(methods) {
  const lines = createInterface({ input: process.stdin, crlfDelay: Infinity });
  lines.on('line', async line => {
    const { id, method, params } = JSON.parse(line);
    try {
      const run = methods[method];
      if (!run) {
        throw new Error(`no such method: ${method}`);
      }
      const result = await run(params ?? {});
      write({ id, result: result === undefined ? null : result });
    } catch (error) {
      write({ id, error: errorJson(error) });
    }
  });
  // The test is gone, so nobody is left to work for.
  lines.on('close', () => process.exit(0));
  process.on('unhandledRejection', error => {
    console.error('unhandled rejection', error);
    emit('peer.unhandledRejection', { error: errorJson(error) });
  });
}
