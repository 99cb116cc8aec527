// BullMQ for Node.js in the comparison, as its guide uses it: default settings, one process.
// The contract and the workloads are those of ../driver/src/lib.rs and ../workloads.json.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

// The BullMQ that the interop tests install.
const require = createRequire(new URL('../../../tests/interop/package.json', import.meta.url));
const { FlowProducer, Queue, QueueEvents, Worker } = require('bullmq');
const { Redis } = require('ioredis');

/** The most jobs of a bulk call that fills a queue before the measured window. */
const FILL = 1000;

const [command, name, jobsText, url, rateText, seed] = process.argv.slice(2);
const table = JSON.parse(readFileSync(new URL('../workloads.json', import.meta.url), 'utf8'));
const workload = table.find(row => row.name === name);
if (!workload || !['fill', 'run'].includes(command)) {
  throw new Error('fill|run WORKLOAD JOBS URL RATE SEED');
}
const jobs = Number(jobsText);
const rate = Number(rateText);
const names = Array.from({ length: workload.queues ?? 1 }, (_, index) => `bench-${index}`);

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const say = value => process.stdout.write(`${JSON.stringify(value)}\n`);
const sleep = ms => new Promise(resolve => setTimeout(resolve, ms));
const nowUs = () => Math.round((performance.timeOrigin + performance.now()) * 1000);

async function mark(which) {
  say({ mark: which });
  if ((await lines.next()).done) throw new Error('the harness is gone');
}

async function windowOf(work) {
  await mark('start');
  const start = performance.now();
  await work();
  const seconds = (performance.now() - start) / 1000;
  await mark('end');
  return seconds;
}

function countdown(count) {
  let left = count;
  let done;
  const promise = new Promise(resolve => (done = resolve));
  return { oneLess: () => --left === 0 && done(), promise };
}

const text = 'a short message that a seller gets. ';
const bytes = workload.size ?? 100;
const length = Math.max(bytes - 60, 0);
const body = text.repeat(Math.ceil(length / text.length)).slice(0, length);
const to = `seller-${Number(seed) % 100000}@example.org`;
const payload = at => ({ at, to, body });

const expected = workload.kind === 'flows' ? jobs * (workload.children + 1) : jobs;
const timed = ['load', 'delayed', 'through'].includes(workload.kind);
/** Jobs that may still be added before another one has been handled. */
const room = (() => {
  let left = workload.in_flight ?? 0;
  const waiting = [];
  return {
    take: async () => {
      if (left > 0) left--;
      else await new Promise(resolve => waiting.push(resolve));
    },
    free: () => (waiting.length > 0 ? waiting.shift()() : left++),
  };
})();
const handled = countdown(expected);
const heard = countdown(expected);
const starts = [];
const finishes = [];

// One connection for all queues; each worker and listener opens the blocking one that it needs.
const connection = new Redis(url, { maxRetriesPerRequest: null });
const queues = names.map(queue => new Queue(queue, { connection }));
await Promise.all(queues.map(queue => queue.waitUntilReady()));

async function handle(job) {
  if (timed) starts.push(nowUs() - job.data.at);
  if (job.attemptsMade < (workload.fails ?? 0)) throw new Error('as the workload says');
  handled.oneLess();
  room.free();
  if (workload.kind === 'ramp') await new Promise(() => {});
  return null;
}

function work() {
  for (const queue of names) {
    const worker = new Worker(queue, handle, {
      connection,
      concurrency: workload.concurrency,
      ...(workload.limit && { limiter: { max: workload.limit, duration: workload.limit_ms } }),
    });
    worker.on('error', error => console.error(error));
    if (timed) worker.on('completed', job => finishes.push(nowUs() - job.data.at));
  }
}

async function listen() {
  for (const queue of names) {
    const events = new QueueEvents(queue, { connection });
    events.on('completed', () => heard.oneLess());
    events.on('error', error => console.error(error));
    await events.waitUntilReady();
  }
}

const add = index => queues[index % queues.length].add('job', payload(nowUs()));
const addWithRoom = async index => {
  await room.take();
  await add(index);
};

async function allInFlight(count, inFlight, call) {
  let next = 0;
  const lane = async () => {
    while (next < count) await call(next++);
  };
  await Promise.all(Array.from({ length: inFlight }, lane));
}

async function paced(count, call) {
  const start = performance.now();
  const running = [];
  for (let issued = 0; issued < count; ) {
    const due = Math.min(count, Math.floor(((performance.now() - start) / 1000) * rate));
    while (issued < due) running.push(call(issued++));
    await sleep(1);
  }
  await Promise.all(running);
}

function newJob(index, at, delay) {
  const opts = {};
  if (workload.priorities) opts.priority = (index % workload.priorities) + 1;
  if (workload.fails) opts.attempts = workload.fails + 1;
  if (delay !== undefined) opts.delay = delay;
  return { name: 'job', data: payload(at), opts };
}

async function addBulk(count, batch, make) {
  for (let added = 0; added < count; ) {
    const size = Math.min(batch, count - added);
    await queues[0].addBulk(Array.from({ length: size }, (_, index) => make(added + index)));
    added += size;
  }
}

async function allCompleted() {
  for (;;) {
    let completed = 0;
    for (const queue of queues) completed += await queue.getCompletedCount();
    if (completed >= expected) return;
    await sleep(1);
  }
}

/** Adds jobs that fall due at a fixed rate, and opens the window when the first is about to. */
async function delayed() {
  const first = nowUs() + Math.min(8_000_000, 1_000_000 + 250 * jobs);
  const due = index => first + Math.floor((index * 1_000_000) / workload.per_second);
  await addBulk(jobs, FILL, index => {
    const delay = Math.max(0, Math.floor((due(index) - nowUs()) / 1000));
    return newJob(index, due(index), delay);
  });
  if (nowUs() > first) throw new Error('the jobs fell due before all were added');
  work();
  await sleep(Math.max(0, (first - nowUs() - 20_000) / 1000));
  return windowOf(async () => {
    await handled.promise;
    await allCompleted();
  });
}

async function measure() {
  switch (workload.kind) {
    case 'add':
      return windowOf(() => allInFlight(jobs, workload.in_flight, add));
    case 'bulk':
      return windowOf(() => addBulk(jobs, workload.batch, index => newJob(index, 0)));
    case 'process':
      return windowOf(async () => {
        work();
        await handled.promise;
        await allCompleted();
      });
    case 'ramp':
      return windowOf(async () => {
        work();
        await handled.promise;
      });
    case 'backlog':
      return windowOf(async () => {
        await allInFlight(jobs, workload.in_flight, add);
        work();
        await handled.promise;
      });
    case 'delayed':
      return delayed();
    case 'load':
    case 'through':
    case 'flows': {
      work();
      if (workload.listen) await listen();
      const flows = workload.kind === 'flows' && new FlowProducer({ connection });
      await sleep(300);
      return windowOf(async () => {
        if (workload.kind === 'load') await paced(jobs, add);
        else if (workload.kind === 'through') await allInFlight(jobs, workload.in_flight, addWithRoom);
        else await allInFlight(jobs, workload.in_flight, () => flows.add(flow()));
        await handled.promise;
        await allCompleted();
        if (workload.listen) await heard.promise;
      });
    }
    default:
      throw new Error(`no such kind: ${workload.kind}`);
  }
}

function flow() {
  const part = { queueName: names[0], data: payload(0) };
  const children = Array.from({ length: workload.children }, () => ({ name: 'child', ...part }));
  return { name: 'parent', ...part, children };
}

function quantiles(all) {
  if (all.length === 0) return null;
  all.sort((one, other) => one - other);
  const at = percent => all[Math.max(Math.ceil((all.length * percent) / 100) - 1, 0)];
  return { p50: Math.max(at(50), 0), p99: Math.max(at(99), 0) };
}

let report = { jobs: 0, seconds: 0, start: null, finish: null };
if (command === 'fill') {
  const at = nowUs();
  await addBulk(jobs, FILL, index => newJob(index, at));
} else {
  const seconds = await measure();
  report = { jobs: expected, seconds, start: quantiles(starts), finish: quantiles(finishes) };
}
// Workers are not waited for: what they do after the window is nobody's result.
process.stdout.write(`${JSON.stringify({ report })}\n`, () => process.exit(0));
