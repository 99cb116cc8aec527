// A Node.js process that a test drives: it adds, processes and moves jobs with BullMQ itself.
//
// Environment:
//   BULLMQ            package to use: bullmq (6.x, default) or bullmq-v5
//   REDIS_PORT        port of the queues' Redis (maybe a proxy), on 127.0.0.1
//   REDIS_USERNAME, REDIS_PASSWORD
//   EFFECTS_PORT      port of the Redis that counts effects, default REDIS_PORT
//
// A request is a line {"id", "method", "params"}; its answer {"id", "result"} or {"id", "error"}.
// Lines with "event" come unasked.

import { resetClock, setClock } from './lib/clock.mjs';
import { closeGate, openGate } from './lib/behaviour.mjs';
import { queueMethods } from './lib/queues.mjs';
import { scriptedMethods } from './lib/scripted.mjs';
import { manualMethods, workerMethods } from './lib/workers.mjs';
import { emit, errorJson, serve } from './lib/wire.mjs';
import { createRequire } from 'node:module';
import IORedis from 'ioredis';

const require = createRequire(import.meta.url);
const packageName = process.env.BULLMQ || 'bullmq';
const bullmq = await import(packageName);
const { version } = require(`${packageName}/package.json`);

const connection = {
  host: '127.0.0.1',
  port: Number(process.env.REDIS_PORT || 6379),
  username: process.env.REDIS_USERNAME || undefined,
  password: process.env.REDIS_PASSWORD || undefined,
  maxRetriesPerRequest: null,
};

let effectsClient;
function effects() {
  const port = Number(process.env.EFFECTS_PORT || connection.port);
  effectsClient ??= track(new IORedis({ ...connection, port }), 'effects');
  return effectsClient;
}

// An emitter without an error listener would end the process at the first lost connection.
function track(emitter, source) {
  emitter.on('error', error => emit('peer.error', { source, error: errorJson(error) }));
  return emitter;
}

const context = { bullmq, connection, effects, track };

serve({
  'peer.info': () => ({ package: packageName, version, node: process.version, pid: process.pid }),
  'peer.exit': p => process.exit(p.code ?? 0),
  'clock.set': p => setClock(p.ms),
  'clock.reset': () => resetClock(),
  'clock.now': () => Date.now(),
  'gate.open': p => openGate(p.name),
  'gate.close': p => closeGate(p.name),
  ...queueMethods(context),
  ...workerMethods(context),
  ...manualMethods(context),
  ...scriptedMethods(context),
});
