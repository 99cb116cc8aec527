// The Node.js backend's side of the refreshes, on plain BullMQ.
//
// Environment: REDIS_PORT.

import { Queue } from 'bullmq';

import { pattern, schedule, schedulerId, unschedule } from './lib/analytics-schedule.mjs';
import { serve } from './lib/wire.mjs';

const queue = new Queue('analytics-refresh', {
  connection: { host: '127.0.0.1', port: Number(process.env.REDIS_PORT) },
});

serve({
  'rules': p => p.accounts.map(account => [schedulerId(account), pattern(account, p.window)]),
  'schedule': async p => (await schedule(queue, p)).id,
  'unschedule': p => unschedule(queue, p.accountId),
  'schedulers': () => queue.getJobSchedulers(),
});
