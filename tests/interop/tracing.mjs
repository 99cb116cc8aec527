// Producer and worker of BullMQ whose spans and metrics bullmq-otel makes and this process collects.
//
// Environment: REDIS_PORT.

import { ROOT_CONTEXT, context, metrics, propagation, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { CompositePropagator, W3CBaggagePropagator, W3CTraceContextPropagator } from '@opentelemetry/core';
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { DelayedError, FlowProducer, Queue, WaitingChildrenError, WaitingError, Worker } from 'bullmq';
import { BullMQOtel } from 'bullmq-otel';

import { serve } from './lib/wire.mjs';

const collected = new InMemorySpanExporter();
trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(collected)] }));
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
propagation.setGlobalPropagator(
  new CompositePropagator({ propagators: [new W3CTraceContextPropagator(), new W3CBaggagePropagator()] }),
);

/** Every number that was recorded, with its instrument. */
const recorded = [];
const instrument = kind => (name, options) => {
  const record = (value, attributes) => recorded.push({ kind, name, ...options, value, attributes });
  return { add: record, record };
};
metrics.setGlobalMeterProvider({
  getMeter: () => ({
    createCounter: instrument('counter'),
    createHistogram: instrument('histogram'),
    createGauge: instrument('gauge'),
  }),
});

const connection = { host: '127.0.0.1', port: Number(process.env.REDIS_PORT), maxRetriesPerRequest: null };
const options = { connection, telemetry: new BullMQOtel({ tracerName: 'peer', enableMetrics: true }) };
const queues = new Map();

function queue(name) {
  if (!queues.has(name)) {
    queues.set(name, new Queue(name, options));
  }
  return queues.get(name);
}

/** Runs `work` in a span `outer` that has baggage. */
function inSpan(work) {
  const baggage = propagation.createBaggage({ tenant: { value: 'a b' } });
  return context.with(propagation.setBaggage(ROOT_CONTEXT, baggage), () =>
    trace.getTracer('peer').startActiveSpan('outer', async span => {
      try {
        return await work();
      } finally {
        span.end();
      }
    }),
  );
}

/** What a job of the other tests' handler does, by the `do` in its data. */
async function scripted(job, token, worker) {
  const again = job.attemptsStarted > 1;
  switch (job.data.do) {
    case 'fail':
      throw new Error('it failed');
    case 'fail once':
      if (!again) throw new Error('it failed once');
      break;
    case 'delay once':
      if (!again) {
        await job.moveToDelayed(Date.now() + 30, token);
        throw new DelayedError();
      }
      break;
    case 'release once':
      if (!again) {
        await job.moveToWait(token);
        throw new WaitingError();
      }
      break;
    case 'limit once':
      if (!again) {
        await worker().rateLimit(100);
        throw Worker.RateLimitError();
      }
      break;
    case 'children':
      if (!again) {
        const parent = { id: job.id, queue: job.queueQualifiedName };
        await queue(job.queueName).add('part', {}, { parent });
        if (await job.moveToWaitingChildren(token)) throw new WaitingChildrenError();
      }
      break;
  }
  return job.data.do ?? null;
}

/** Operations on a queue, each of which has a span. */
async function administer(q, id) {
  await q.pause();
  await q.resume();
  await q.rateLimit(10);
  await q.updateJobProgress(id, { s3cret: 1 });
  await q.remove(id, { removeChildren: true });
  await q.removeDeduplicationKey('key');
  await q.trimEvents(1000);
  await q.retryJobs({ count: 10, state: 'failed', timestamp: Date.now() });
  await q.promoteJobs({ count: 10 });
  await q.clean(1000, 10, 'completed');
  await q.drain(true);
  await q.obliterate();
}

let working;

serve({
  'add': p => inSpan(async () => (await queue(p.queue).add(p.name, p.data ?? {}, p.opts)).id),
  'add.bulk': p => inSpan(async () => (await queue(p.queue).addBulk(p.jobs)).length),
  'add.flow': p => inSpan(async () => (await new FlowProducer(options).add(p)).job.id),
  'add.flows': p => inSpan(async () => (await new FlowProducer(options).addBulk(p.flows)).length),
  'add.scheduler': p => inSpan(async () => (await queue(p.queue).upsertJobScheduler(p.id, p.repeat, p.template)).id),
  // Says of each job what its span's baggage is.
  'work': async p => {
    const worker = new Worker(
      p.queue,
      async () => propagation.getActiveBaggage()?.getEntry('tenant')?.value ?? null,
      { ...options, name: 'node' },
    );
    await worker.waitUntilReady();
  },
  'work.scripted': async p => {
    working = new Worker(p.queue, (job, token) => scripted(job, token, () => working), { ...options, name: 'node' });
    await working.waitUntilReady();
  },
  'work.end': () => working.close(),
  'administer': p => administer(queue(p.queue), p.id),
  // Starts a job by hand and ends it.
  'manual': async p => {
    const worker = new Worker(p.queue, null, { ...options, name: 'node' });
    const job = await worker.getNextJob('token', { block: false });
    await (p.fail ? job.moveToFailed(new Error('by hand'), 'token', false) : job.moveToCompleted(1, 'token', false));
    await worker.close();
  },
  'record.counts': async p => {
    await queue(p.queue).recordJobCountsMetric();
  },
  'recorded': () => recorded,
  'spans': () =>
    collected.getFinishedSpans().map(span => ({
      name: span.name,
      kind: span.kind,
      id: span.spanContext().spanId,
      trace: span.spanContext().traceId,
      parent: span.parentSpanContext?.spanId ?? null,
      attributes: span.attributes,
    })),
});
