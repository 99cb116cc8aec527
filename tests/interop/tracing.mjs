// Producer and worker of BullMQ whose spans bullmq-otel makes and this process collects.
//
// Environment: REDIS_PORT.

import { ROOT_CONTEXT, context, propagation, trace } from '@opentelemetry/api';
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks';
import { CompositePropagator, W3CBaggagePropagator, W3CTraceContextPropagator } from '@opentelemetry/core';
import { BasicTracerProvider, InMemorySpanExporter, SimpleSpanProcessor } from '@opentelemetry/sdk-trace-base';
import { FlowProducer, Queue, Worker } from 'bullmq';
import { BullMQOtel } from 'bullmq-otel';

import { serve } from './lib/wire.mjs';

const collected = new InMemorySpanExporter();
trace.setGlobalTracerProvider(new BasicTracerProvider({ spanProcessors: [new SimpleSpanProcessor(collected)] }));
context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable());
propagation.setGlobalPropagator(
  new CompositePropagator({ propagators: [new W3CTraceContextPropagator(), new W3CBaggagePropagator()] }),
);

const connection = { host: '127.0.0.1', port: Number(process.env.REDIS_PORT), maxRetriesPerRequest: null };
const options = { connection, telemetry: new BullMQOtel('peer') };
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

serve({
  'add': p => inSpan(async () => (await queue(p.queue).add(p.name, p.data ?? {}, p.opts)).id),
  'add.bulk': p => inSpan(async () => (await queue(p.queue).addBulk(p.jobs)).length),
  'add.flow': p => inSpan(async () => (await new FlowProducer(options).add(p)).job.id),
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
