// A Node.js service that shares sealed values with the test that drives it.
//
// Environment: ENCRYPTION_KEYS as for oxbull.

import { Keyring, place, sessionKey } from './lib/seal.mjs';
import { serve } from './lib/wire.mjs';

const keyring = new Keyring(process.env.ENCRYPTION_KEYS);

// A session and a token, as they lie in Redis; a field of a job's data, as it lies in the data.
serve({
  'session.open': p => JSON.parse(keyring.open(place.session(sessionKey(p.token)), p.stored)),
  'session.seal': p => keyring.seal(place.session(sessionKey(p.token)), JSON.stringify(p.session)),
  'token.open': p => JSON.parse(keyring.open(place.token(p.key), p.stored)),
  'token.seal': p => keyring.seal(place.token(p.key), JSON.stringify(p.value)),
  'job.open': p => JSON.parse(keyring.open(place.job(p.queue, p.subject), p.field.$sealed)),
  'job.seal': p => ({ $sealed: keyring.seal(place.job(p.queue, p.subject), JSON.stringify(p.value)) }),
});
