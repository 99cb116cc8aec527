// The example backend as a process that a test drives.
//
// Environment: REDIS_PORT on 127.0.0.1, REDIS_USERNAME and REDIS_PASSWORD, SCHEMAS (a directory).

import { pathToFileURL } from 'node:url';
import { Backend } from './examples/backend.mjs';
import { emit, serve } from './lib/wire.mjs';

const { REDIS_PORT, REDIS_USERNAME, REDIS_PASSWORD, SCHEMAS } = process.env;
const backend = new Backend({
  connection: {
    host: '127.0.0.1',
    port: Number(REDIS_PORT),
    username: REDIS_USERNAME,
    password: REDIS_PASSWORD,
    maxRetriesPerRequest: null,
  },
  schemas: pathToFileURL(`${SCHEMAS}/`),
});

serve({
  check: p => void backend.schemas.check(p.name, p.value),
  schedulePost: p => backend.schedulePost(p.post, new Date(p.at)),
  reschedulePost: p => backend.reschedulePost(p.postId, new Date(p.at)),
  cancelPost: p => backend.cancelPost(p.postId),
  acceptDelivery: p => backend.acceptDelivery(p.body),
  refreshAccount: p => backend.refreshAccount(p.accountId, p.userId),
  scheduleRefresh: async p => (await backend.scheduleRefresh(p.accountId, p.userId, p.timeZone)).id,
  unscheduleRefresh: p => backend.unscheduleRefresh(p.accountId),
  result: p => backend.result(p.queue, p.id, p.timeoutMs),
  listen: () => backend.onNotice((user, notice) => emit('notice', { user, notice })),
  close: () => backend.close(),
});
