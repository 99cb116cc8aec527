// Workers whose handlers do what a scenario wrote down for each run of each job: the script
// {"<job id>": [[step, ...], ...]} has a list of steps for the first run, for the second and so on.
// A step is [verb, ...arguments]; a run without steps, or whose steps do not end it, returns {"ok": id}.
// The same script drives the other side's worker, see tests/parity/ox/working.rs.

import { jobJson } from './job-json.mjs';

export function scriptedMethods({ bullmq, connection, track }) {
  const { Worker, Queue, DelayedError, UnrecoverableError, WaitingChildrenError, WaitingError } = bullmq;
  const plays = new Map();

  function failure(error) {
    // A real stack holds paths and line numbers, which no other implementation could equal.
    error.stack = `${error.name}: ${error.message}\n    at scenario`;
    return error;
  }

  const sorted = map => Object.fromEntries(Object.entries(map).sort());

  const verbs = {
    return: (_run, value) => ({ value }),
    fail: (_run, message) => {
      throw failure(new Error(message));
    },
    fatal: (_run, message) => {
      throw failure(new UnrecoverableError(message));
    },
    // What the other side stores of a panic.
    panic: (_run, message) => {
      throw failure(new Error(`handler panicked: ${message}`));
    },
    delay: async ({ job, token }, ms) => {
      await job.moveToDelayed(Date.now() + ms, token);
      throw new DelayedError();
    },
    release: async ({ job, token }) => {
      await job.moveToWait(token);
      throw new WaitingError();
    },
    children: async ({ job, token }) => {
      if (await job.moveToWaitingChildren(token)) {
        throw new WaitingChildrenError();
      }
    },
    rateLimit: async ({ play }, ms) => {
      await play.worker.rateLimit(ms);
      play.limited = true;
      throw Worker.RateLimitError();
    },
    child: async ({ job, play }, id, opts) => {
      const parent = { id: job.id, queue: job.queueQualifiedName };
      await play.queue.add(id, { n: id }, { jobId: id, parent, ...opts });
    },
    // These two end the run with what they read.
    values: async ({ job }) => ({ value: sorted(await job.getChildrenValues()) }),
    ignored: async ({ job }) => ({ value: sorted(await job.getIgnoredChildrenFailures()) }),
    drop: ({ job }) => job.removeUnprocessedChildren(),
    progress: ({ job }, value) => job.updateProgress(value),
    log: ({ job }, row) => job.log(row),
    data: ({ job }, value) => job.updateData(value),
    gate: ({ play }, name) => {
      const gate = gateOf(play, name);
      gate.reach();
      return gate.opened.then(() => undefined);
    },
  };

  function gateOf(play, name) {
    if (!play.gates.has(name)) {
      const gate = {};
      gate.reached = new Promise(resolve => (gate.reach = resolve));
      gate.opened = new Promise(resolve => (gate.open = resolve));
      play.gates.set(name, gate);
    }
    return play.gates.get(name);
  }

  async function run(play, job, token) {
    const seen = jobJson(job);
    play.seen.push(seen);
    const runs = play.runs.get(job.id) ?? 0;
    play.runs.set(job.id, runs + 1);
    for (const [verb, ...args] of play.script[job.id]?.[runs] ?? []) {
      const end = await verbs[verb]({ play, job, token }, ...args);
      if (['return', 'values', 'ignored'].includes(verb)) {
        return end.value;
      }
    }
    return { ok: job.id };
  }

  function pick({ handle }) {
    if (!plays.has(handle)) {
      throw new Error(`no such scripted worker: ${handle}`);
    }
    return plays.get(handle);
  }

  return {
    'scripted.start': async p => {
      const { handle, queue, prefix, script, opts } = p;
      const play = { script, runs: new Map(), seen: [], emitted: [], gates: new Map(), limited: false };
      plays.set(handle, play);
      play.queue = track(new Queue(queue, { connection, prefix, skipMetasUpdate: true }), `scripted ${handle}`);
      const options = { connection, prefix, skipStalledCheck: true, ...opts, autorun: false };
      play.worker = new Worker(queue, (job, token) => run(play, job, token), options);
      play.errors = [];
      play.worker.on('error', error => play.errors.push(error.message));
      play.worker.on('active', job => play.emitted.push(['active', job.id]));
      play.worker.on('completed', (job, result) => play.emitted.push(['completed', job.id, result ?? null]));
      play.worker.on('failed', (job, error) => play.emitted.push(['failed', job?.id ?? null, error.message]));
      play.worker.on('drained', () => {
        play.emitted.push(['drained']);
        gateOf(play, 'drained').reach();
      });
      await play.worker.waitUntilReady();
      play.running = play.worker.run();
    },
    'scripted.reached': p => gateOf(pick(p), p.gate).reached,
    'scripted.open': p => gateOf(pick(p), p.gate).open(),
    'scripted.limited': p => pick(p).limited,
    'scripted.end': async p => {
      const play = pick(p);
      plays.delete(p.handle);
      await play.worker.close();
      await play.running;
      await play.queue.close();
      return { seen: play.seen, emitted: play.emitted, errors: play.errors };
    },
  };
}
