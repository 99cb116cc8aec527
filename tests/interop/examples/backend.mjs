// The backend's side of the three queues: an example to copy into a NestJS provider, with the file it imports.
// It needs `bullmq`, `ioredis` and `ajv`; docs/backend.md explains it, workers/tests/operations runs it.

import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { Ajv2020 } from 'ajv/dist/2020.js';
import { Queue, QueueEvents } from 'bullmq';
import IORedis from 'ioredis';

import { schedule, unschedule } from '../lib/analytics-schedule.mjs';

const DAY = 24 * 3600;

/** What every job of a queue gets. The workers' own defaults: a job that lacks them would be tried once. */
const DEFAULTS = {
  'post-publishing': {
    attempts: 3,
    backoff: { type: 'exponential', delay: 5000 },
    removeOnComplete: { age: 7 * DAY },
    removeOnFail: { age: 30 * DAY },
  },
  'webhook-processing': {
    attempts: 5,
    backoff: { type: 'exponential', delay: 1000 },
    removeOnComplete: { age: 2 * DAY },
    removeOnFail: { age: 30 * DAY },
  },
  'analytics-refresh': {
    attempts: 5,
    backoff: { type: 'exponential', delay: 30_000 },
    removeOnComplete: { age: 6 * 3600, count: 2000 },
    removeOnFail: { age: 7 * DAY, count: 10_000 },
  },
};

/** Checks jobs against the schemas that are made of the workers' own types. */
export class Schemas {
  constructor(directory) {
    const ajv = new Ajv2020({ allErrors: true, allowUnionTypes: true });
    this.checks = new Map();
    for (const queue of Object.keys(DEFAULTS)) {
      for (const part of ['data', 'result']) {
        const name = `${queue}.${part}`;
        const text = readFileSync(new URL(`${name}.json`, directory), 'utf8');
        this.checks.set(name, ajv.compile(JSON.parse(text)));
      }
    }
  }

  /** Throws a TypeError that names what is wrong; the values themselves stay out of it. */
  check(name, value) {
    const check = this.checks.get(name);
    if (!check(value)) {
      const problems = check.errors.map(error => `${error.instancePath || 'it'} ${error.message}`);
      throw new TypeError(`${name}: ${problems.join('; ')}`);
    }
    return value;
  }
}

/** The provider: one a process. In NestJS, `close` is `onModuleDestroy`. */
export class Backend {
  /**
   * @param connection ioredis options, with the name and password of the role `producer`
   * @param schemas where the schemas are, a directory's URL
   */
  constructor({ connection, schemas }) {
    this.connection = connection;
    this.schemas = new Schemas(schemas);
    this.queues = new Map();
    this.events = new Map();
    for (const [name, defaultJobOptions] of Object.entries(DEFAULTS)) {
      this.queues.set(name, new Queue(name, { connection, defaultJobOptions }));
    }
    // Who waits for results; a process that only adds jobs needs none of these.
    for (const name of this.queues.keys()) {
      this.events.set(name, new QueueEvents(name, { connection }));
    }
    for (const emitter of [...this.queues.values(), ...this.events.values()]) {
      // Without a listener, the first lost connection would end the process.
      emitter.on('error', error => console.error('redis:', error.message));
    }
  }

  /** Has a post published at a time. The id is the post's: scheduling it twice makes one job. */
  async schedulePost(post, at) {
    const delay = Math.max(0, at.getTime() - Date.now());
    return this.add('post-publishing', 'publish', post, { jobId: postJob(post.postId), delay });
  }

  /** Moves a scheduled post to another time; false when it is not waiting for its time any more. */
  async reschedulePost(postId, at) {
    const job = await this.queues.get('post-publishing').getJob(postJob(postId));
    if (!job || !(await job.isDelayed())) {
      return false;
    }
    await job.changeDelay(Math.max(0, at.getTime() - Date.now()));
    return true;
  }

  /** Takes a scheduled post back; false when it is not there. Throws when a worker has it. */
  async cancelPost(postId) {
    const job = await this.queues.get('post-publishing').getJob(postJob(postId));
    await job?.remove();
    return job !== undefined;
  }

  /** Hands on a webhook delivery that came in here instead of at the gateway. Repeats make one job. */
  async acceptDelivery(rawBody) {
    const jobId = createHash('sha256').update(rawBody).digest('hex');
    return this.add('webhook-processing', 'delivery', JSON.parse(rawBody), { jobId });
  }

  /** Reads an account's numbers now. */
  async refreshAccount(accountId, userId) {
    return this.add('analytics-refresh', 'refresh', { accountId, userId }, {});
  }

  /** Has an account's numbers read every night at its own time; replaces its former schedule. */
  async scheduleRefresh(accountId, userId, timeZone) {
    this.schemas.check('analytics-refresh.data', { accountId, userId });
    return schedule(this.queues.get('analytics-refresh'), { accountId, userId, timeZone });
  }

  /** Ends that; false when there was no schedule. */
  async unscheduleRefresh(accountId) {
    return unschedule(this.queues.get('analytics-refresh'), accountId);
  }

  /** What a job came to. Rejects with its reason when it has failed for good, or at the timeout. */
  async result(queue, jobId, timeoutMs) {
    const job = await this.queues.get(queue).getJob(jobId);
    if (!job) {
      throw new Error(`no such job in ${queue}`);
    }
    const result = await job.waitUntilFinished(this.events.get(queue), timeoutMs);
    return this.schemas.check(`${queue}.result`, result);
  }

  /** Calls back with what each user is told; the WebSocket server passes it on. */
  async onNotice(tell) {
    this.ear = new IORedis(this.connection);
    this.ear.on('error', error => console.error('redis:', error.message));
    this.ear.on('pmessage', (_pattern, channel, text) => {
      tell(channel.slice('notify:'.length), JSON.parse(text));
    });
    await this.ear.psubscribe('notify:*');
  }

  async close() {
    const parts = [...this.events.values(), ...this.queues.values()];
    await Promise.all(parts.map(part => part.close()));
    this.ear?.disconnect();
  }

  async add(queue, name, data, opts) {
    this.schemas.check(`${queue}.data`, data);
    const job = await this.queues.get(queue).add(name, data, opts);
    return job.id;
  }
}

/** BullMQ refuses ids with colons and takes plain numbers for its own. */
function postJob(postId) {
  return `post-${postId}`;
}
