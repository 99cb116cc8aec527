// What a worker's processor does is written in the job: `data.do`, or else the worker's own
// `behaviour`. Steps are separated by semicolons and run in order: "sleep:20;failOnce".
//
//   ok                 returns data.result, or {"ok": true}
//   fail               throws an Error with data.message, or "boom"
//   failOnce           fails on the first attempt
//   failTimes:n        fails on the first n attempts
//   unrecoverable      throws an UnrecoverableError
//   sleep:ms           waits
//   block:ms           keeps the event loop busy
//   gate:name          waits until the test calls gate.open with that name
//   progress           reports 50, then {"step": 2}
//   progress:n         reports n
//   log:text           writes a log line
//   data:json          replaces the job's data
//   delayOnce:ms       on the first start, moves the job to delayed
//   waitOnce           on the first start, moves the job back to wait
//   waitChildren       waits for the children first; returns their values
//   rateLimitOnce:ms   on the first start, limits the queue's rate
//   crash              kills this process

const gates = new Map();

function gate(name) {
  if (!gates.has(name)) {
    let open;
    const opened = new Promise(resolve => (open = resolve));
    gates.set(name, { opened, open });
  }
  return gates.get(name);
}

/** Lets jobs that wait at the gate go on, and those that come later pass. */
export function openGate(name) {
  gate(name).open();
}

/** Shuts a gate again for jobs that come later. */
export function closeGate(name) {
  gates.delete(name);
}

function splitStep(step) {
  const at = step.indexOf(':');
  return at < 0 ? [step, ''] : [step.slice(0, at), step.slice(at + 1)];
}

/** Makes a function that runs a job's steps with the classes of one BullMQ version. */
export function makeRunner({ Worker, DelayedError, UnrecoverableError, ...bullmq }) {
  const { WaitingChildrenError, WaitingError } = bullmq;
  const fail = job => {
    throw new Error(job.data?.message ?? 'boom');
  };
  const firstStart = job => job.attemptsStarted <= 1;

  const steps = {
    ok: () => {},
    fail,
    failOnce: job => (job.attemptsMade < 1 ? fail(job) : undefined),
    failTimes: (job, n) => (job.attemptsMade < Number(n) ? fail(job) : undefined),
    unrecoverable: job => {
      throw new UnrecoverableError(job.data?.message ?? 'boom');
    },
    sleep: (_job, ms) => new Promise(resolve => setTimeout(resolve, Number(ms))),
    block: (_job, ms) => {
      const end = performance.now() + Number(ms);
      while (performance.now() < end);
    },
    gate: (_job, name) => gate(name).opened,
    progress: async (job, n) => {
      if (n !== '') {
        return job.updateProgress(Number(n));
      }
      await job.updateProgress(50);
      await job.updateProgress({ step: 2 });
    },
    log: (job, text) => job.log(text || 'a line'),
    data: (job, json) => job.updateData(JSON.parse(json)),
    delayOnce: async (job, ms, { token }) => {
      if (firstStart(job)) {
        await job.moveToDelayed(Date.now() + Number(ms), token);
        throw new DelayedError();
      }
    },
    waitOnce: async (job, _arg, { token }) => {
      if (firstStart(job)) {
        await job.moveToWait(token);
        throw new WaitingError();
      }
    },
    waitChildren: async (job, _arg, { token }) => {
      if (await job.moveToWaitingChildren(token)) {
        throw new WaitingChildrenError();
      }
      return { result: await job.getChildrenValues() };
    },
    rateLimitOnce: async (job, ms, { worker }) => {
      if (firstStart(job)) {
        await worker.rateLimit(Number(ms));
        throw Worker.RateLimitError();
      }
    },
    crash: () => process.kill(process.pid, 'SIGKILL'),
  };

  return async function run(job, { token, worker, behaviour }) {
    let result = job.data?.result ?? { ok: true };
    for (const step of String(job.data?.do ?? behaviour ?? 'ok').split(';')) {
      const [name, arg] = splitStep(step.trim());
      if (!steps[name]) {
        throw new UnrecoverableError(`no such behaviour: ${step}`);
      }
      const outcome = await steps[name](job, arg, { token, worker });
      if (outcome && typeof outcome === 'object' && 'result' in outcome) {
        result = outcome.result;
      }
    }
    return result;
  };
}
