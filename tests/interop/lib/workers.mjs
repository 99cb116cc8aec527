// Methods on workers: those that run a processor, and manual ones that a test moves step by step.

import { makeRunner } from './behaviour.mjs';
import { jobJson } from './job-json.mjs';
import { emit, errorJson } from './wire.mjs';

export function workerMethods({ bullmq, connection, effects, track }) {
  const { Worker } = bullmq;
  const run = makeRunner(bullmq);
  const workers = new Map();

  function pick({ worker }) {
    const handle = worker ?? [...workers.keys()].at(-1);
    if (!workers.has(handle)) {
      throw new Error(`no such worker: ${handle}`);
    }
    return workers.get(handle);
  }

  function forward(worker, handle) {
    const tell = (event, fields) => emit(`worker.${event}`, { worker: handle, ...fields });
    worker.on('active', (job, prev) => tell('active', { id: job.id, prev }));
    worker.on('completed', (job, result, prev) => tell('completed', { id: job.id, result, prev }));
    worker.on('failed', (job, error, prev) =>
      tell('failed', { id: job?.id ?? null, error: errorJson(error), prev }));
    worker.on('progress', (job, progress) => tell('progress', { id: job.id, progress }));
    worker.on('stalled', (id, prev) => tell('stalled', { id, prev }));
    worker.on('lockRenewalFailed', ids => tell('lockRenewalFailed', { ids }));
    for (const event of ['drained', 'paused', 'resumed', 'ready', 'closed']) {
      worker.on(event, () => tell(event));
    }
  }

  // Counts live in Redis, outside the queue's keys, so that they outlast a peer that is killed.
  async function counted(job, key, task) {
    emit('job.started', { id: job.id, attemptsMade: job.attemptsMade });
    if (key) {
      await effects().hincrby(`${key}:started`, job.id, 1);
    }
    const result = await task();
    if (key) {
      await effects().hincrby(`${key}:done`, job.id, 1);
    }
    emit('job.done', { id: job.id });
    return result;
  }

  return {
    'worker.start': async p => {
      const { queue, prefix = 'bull', opts = {}, behaviour, effectsKey } = p;
      const handle = p.worker ?? `w${workers.size + 1}`;
      const worker = new Worker(
        queue,
        (job, token) => counted(job, effectsKey, () => run(job, { token, worker, behaviour })),
        { connection, prefix, ...opts },
      );
      workers.set(handle, track(worker, `worker ${handle}`));
      forward(worker, handle);
      await worker.waitUntilReady();
      return { worker: handle };
    },
    'worker.pause': p => pick(p).pause(p.doNotWaitActive ?? false),
    'worker.resume': p => pick(p).resume(),
    'worker.setConcurrency': p => {
      pick(p).concurrency = p.concurrency;
    },
    'worker.rateLimit': p => pick(p).rateLimit(p.ms),
    'worker.isRunning': p => pick(p).isRunning(),
    'worker.close': p => pick(p).close(p.force ?? false),
    'worker.call': p => pick(p)[p.method](...(p.args ?? [])),
  };
}

export function manualMethods({ bullmq, connection, track }) {
  const { Worker, Job, UnrecoverableError } = bullmq;
  const manuals = new Map();

  function make(name, { queue, prefix = 'bull', opts = {} }) {
    const options = { connection, prefix, autorun: false, ...opts };
    return track(new Worker(queue, null, options), name);
  }

  function pick({ manual }) {
    const handle = manual ?? [...manuals.keys()].at(-1);
    if (!manuals.has(handle)) {
      throw new Error(`no such manual worker: ${handle}`);
    }
    return manuals.get(handle);
  }

  function held(p) {
    const job = pick(p).jobs.get(p.id);
    if (!job) {
      throw new Error(`the manual worker never fetched job ${p.id}`);
    }
    return job;
  }

  function keep(entry, job) {
    if (job) {
      entry.jobs.set(job.id, job);
    }
    return jobJson(job);
  }

  // The reply of a finish that also fetched: {next: job or null, raw: what BullMQ returned}.
  function next(p, reply) {
    const [data, id] = Array.isArray(reply) ? reply : [];
    if (!data || !id) {
      return { next: null, raw: reply ?? null };
    }
    const entry = pick(p);
    const job = Job.fromJSON(entry.worker, data, id);
    job.token = p.token;
    return { next: keep(entry, job), raw: null };
  }

  function failure({ name = 'Error', message = 'boom', stack }) {
    const error = name === 'UnrecoverableError' ? new UnrecoverableError(message) : new Error(message);
    error.name = name;
    // A real stack holds paths and line numbers, which no other implementation could equal.
    error.stack = stack ?? `${name}: ${message}\n    at scenario`;
    return error;
  }

  return {
    'manual.open': async p => {
      const handle = p.manual ?? `m${manuals.size + 1}`;
      const worker = make(`manual ${handle}`, p);
      manuals.set(handle, { worker, jobs: new Map(), params: p });
      await worker.waitUntilReady();
      return { manual: handle };
    },
    'manual.getNextJob': async p =>
      keep(pick(p), await pick(p).worker.getNextJob(p.token, { block: p.block ?? false })),
    'manual.complete': async p =>
      next(p, await held(p).moveToCompleted(p.value ?? null, p.token, p.fetchNext ?? false)),
    'manual.fail': async p =>
      next(p, await held(p).moveToFailed(failure(p), p.token, p.fetchNext ?? false)),
    'manual.moveToDelayed': p => held(p).moveToDelayed(p.timestamp, p.token),
    'manual.moveToWait': p => held(p).moveToWait(p.token),
    'manual.moveToWaitingChildren': p => held(p).moveToWaitingChildren(p.token, p.opts ?? {}),
    'manual.extendLock': p => held(p).extendLock(p.token, p.duration),
    'manual.updateProgress': p => held(p).updateProgress(p.progress),
    'manual.updateData': p => held(p).updateData(p.data),
    'manual.log': p => held(p).log(p.line),
    'manual.rateLimit': p => pick(p).worker.rateLimit(p.ms),
    'manual.job': p => jobJson(held(p)),
    // Runs one stalled check by a fresh worker and returns the ids it reported. Redis lets one
    // check through per stalledInterval: delete the queue's `stalled-check` key between two.
    'manual.checkStalled': async p => {
      const params = p.queue ? p : { ...pick(p).params, ...p };
      const opts = { ...params.opts, ...p.opts };
      const worker = make('stalled check', { ...params, opts });
      const stalled = [];
      worker.on('stalled', id => stalled.push(id));
      try {
        await worker.waitUntilReady();
        await worker.startStalledCheckTimer();
      } finally {
        await worker.close();
      }
      return { stalled };
    },
    'manual.close': async p => pick(p).worker.close(p.force ?? false),
    'manual.call': p => held(p)[p.method](...(p.args ?? [])),
  };
}
