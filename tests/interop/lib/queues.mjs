// Methods on queues, jobs, flows and event streams. Queues are named by {queue, prefix} and are
// opened with default options when first named, unless queue.open came before.

import { setClock } from './clock.mjs';
import { jobJson, treeJson } from './job-json.mjs';
import { emit } from './wire.mjs';

const QUEUE_EVENTS = [
  'active', 'added', 'cleaned', 'completed', 'debounced', 'deduplicated', 'delayed', 'drained',
  'duplicated', 'failed', 'paused', 'progress', 'removed', 'resumed', 'retries-exhausted',
  'stalled', 'waiting', 'waiting-children',
];

export function queueMethods({ bullmq, connection, track }) {
  const { Queue, FlowProducer, QueueEvents, QueueEventsProducer } = bullmq;
  const queues = new Map();
  const streams = new Map();
  const flows = new Map();
  const nameOf = ({ queue, prefix = 'bull' }) => `${prefix}:${queue}`;

  function open(params) {
    const key = nameOf(params);
    if (!queues.has(key)) {
      const { queue: name, prefix = 'bull', opts = {} } = params;
      queues.set(key, track(new Queue(name, { connection, prefix, ...opts }), `queue ${key}`));
    }
    return queues.get(key);
  }

  async function job(params) {
    const found = await open(params).getJob(params.id);
    if (!found) {
      // BullMQ's code for a job that is missing.
      throw Object.assign(new Error(`no job ${params.id} in ${nameOf(params)}`), { code: -1 });
    }
    return found;
  }

  function flow({ prefix = 'bull', opts = {} }) {
    if (!flows.has(prefix)) {
      const producer = new FlowProducer({ connection, prefix, ...opts });
      flows.set(prefix, track(producer, `flow ${prefix}`));
    }
    return flows.get(prefix);
  }

  const methods = {
    'queue.open': async p => {
      await open(p).waitUntilReady();
    },
    'queue.close': async p => {
      const queue = open(p);
      queues.delete(nameOf(p));
      await queue.close();
    },
    'queue.add': async p => jobJson(await open(p).add(p.name ?? 'job', p.data ?? {}, p.opts)),
    'queue.addBulk': async p => (await open(p).addBulk(p.jobs)).map(jobJson),
    'queue.pause': p => open(p).pause(),
    'queue.resume': p => open(p).resume(),
    'queue.isPaused': p => open(p).isPaused(),
    'queue.drain': p => open(p).drain(p.delayed ?? false),
    'queue.clean': p => open(p).clean(p.grace ?? 0, p.limit ?? 0, p.type),
    'queue.remove': p => open(p).remove(p.id, p.opts),
    'queue.getJob': async p => jobJson(await open(p).getJob(p.id)),
    'queue.getJobs': async p =>
      (await open(p).getJobs(p.types, p.start ?? 0, p.end ?? -1, p.asc ?? true)).map(jobJson),
    'queue.getState': p => open(p).getJobState(p.id),
    'queue.getCounts': p => open(p).getJobCounts(...(p.types ?? [])),
    'queue.logs': p => open(p).getJobLogs(p.id, p.start ?? 0, p.end ?? -1, p.asc ?? true),
    'queue.retryJob': async p => (await job(p)).retry(p.state, p.opts),
    'queue.retryJobs': p => open(p).retryJobs(p.opts),
    'queue.promote': async p => (await job(p)).promote(),
    'queue.promoteJobs': p => open(p).promoteJobs(p.opts),
    'queue.changeDelay': async p => (await job(p)).changeDelay(p.delay),
    'queue.changePriority': async p =>
      (await job(p)).changePriority({ priority: p.priority, lifo: p.lifo }),
    'queue.updateData': async p => (await job(p)).updateData(p.data),
    'queue.updateProgress': async p => (await job(p)).updateProgress(p.progress),
    'queue.log': async p => (await job(p)).log(p.line),
    'queue.clearLogs': async p => (await job(p)).clearLogs(p.keep),
    'queue.removeJob': async p => (await job(p)).remove(p.opts),
    'queue.setGlobalConcurrency': p => open(p).setGlobalConcurrency(p.concurrency),
    'queue.removeGlobalConcurrency': p => open(p).removeGlobalConcurrency(),
    'queue.setGlobalRateLimit': p => open(p).setGlobalRateLimit(p.max, p.duration),
    'queue.removeGlobalRateLimit': p => open(p).removeGlobalRateLimit(),
    'queue.rateLimit': p => open(p).rateLimit(p.ms),
    'queue.removeRateLimitKey': p => open(p).removeRateLimitKey(),
    'queue.getRateLimitTtl': p => open(p).getRateLimitTtl(p.max),
    'queue.obliterate': p => open(p).obliterate(p.opts),
    'queue.trimEvents': p => open(p).trimEvents(p.maxLength),
    'queue.getMeta': p => open(p).getMeta(),
    'queue.getMetrics': p => open(p).getMetrics(p.type, p.start, p.end),
    'queue.upsertJobScheduler': async p =>
      jobJson(await open(p).upsertJobScheduler(p.id, p.repeat, p.template)),
    'queue.getJobSchedulers': p => open(p).getJobSchedulers(p.start ?? 0, p.end ?? -1, true),
    'queue.removeJobScheduler': p => open(p).removeJobScheduler(p.id),
    // For each case {repeat, now, count}: the slots of schedulers set up at `now`, then at the slot
    // before; they end early with null where there is none, or with {error}.
    'queue.slots': async p => {
      const answers = [];
      for (const [index, { repeat, now, count }] of p.cases.entries()) {
        const slots = [];
        for (let at = now; slots.length < count && Number.isFinite(at); ) {
          setClock(at);
          const id = `slots-${index}-${slots.length}`;
          try {
            const job = await open(p).upsertJobScheduler(id, repeat, {});
            slots.push(job ? Number(job.id.split(':').at(-1)) : null);
            at = slots.at(-1) ?? NaN;
          } catch (error) {
            slots.push({ error: error.message });
            break;
          }
        }
        answers.push(slots);
      }
      return answers;
    },
    // Anything else: {method, args} on the queue, or on the job with {id}.
    'queue.call': p => open(p)[p.method](...(p.args ?? [])),
    'job.call': async p => (await job(p))[p.method](...(p.args ?? [])),

    'flow.add': async p => treeJson(await flow(p).add(p.flow, p.flowOpts)),
    'flow.addBulk': async p => (await flow(p).addBulk(p.flows)).map(treeJson),
    'flow.get': async p => treeJson(await flow(p).getFlow({ prefix: p.prefix, ...p.opts })),

    // Pushes {"event": "queue.<name>", "queue", "eventId", ...fields} for each entry; `events` are
    // further names to listen to.
    'events.open': async p => {
      const { queue: name, prefix = 'bull', opts = {} } = p;
      const stream = track(new QueueEvents(name, { connection, prefix, ...opts }), `events ${name}`);
      streams.set(nameOf(p), stream);
      for (const event of [...QUEUE_EVENTS, ...(p.events ?? [])]) {
        stream.on(event, (fields, eventId) => emit(`queue.${event}`, { queue: name, eventId, fields }));
      }
      await stream.waitUntilReady();
    },
    'events.publish': async p => {
      const { queue: name, prefix = 'bull' } = p;
      const producer = track(new QueueEventsProducer(name, { connection, prefix }), `producer ${name}`);
      try {
        await producer.publishEvent(p.fields, ...(p.maxEvents === undefined ? [] : [p.maxEvents]));
      } finally {
        await producer.close();
      }
    },
    'events.close': async p => {
      const stream = streams.get(nameOf(p));
      streams.delete(nameOf(p));
      await stream?.close();
    },

    // Calls a method with parameters that are JSON in a string, for text that JSON between the two
    // processes cannot carry: half a surrogate pair. Answers nothing, for the same reason.
    'text.call': async p => {
      await methods[p.method](JSON.parse(p.params));
    },
  };
  return methods;
}
