// The example store of access tokens as a process that a test drives.
//
// Environment: REDIS_PORT on 127.0.0.1, REDIS_USERNAME and REDIS_PASSWORD, ENCRYPTION_KEYS.

import IORedis from 'ioredis';
import { TokenStore } from './examples/tokens.mjs';
import { serve } from './lib/wire.mjs';

const { REDIS_PORT, REDIS_USERNAME, REDIS_PASSWORD, ENCRYPTION_KEYS } = process.env;
const redis = new IORedis({
  host: '127.0.0.1',
  port: Number(REDIS_PORT),
  username: REDIS_USERNAME,
  password: REDIS_PASSWORD,
});
const store = new TokenStore(redis, ENCRYPTION_KEYS);

serve({
  put: p => store.put(p.accountId, p.userId, p.login),
  get: p => store.get(p.accountId),
  remove: p => store.remove(p.accountId),
  close: () => redis.quit(),
});
