// Accounts' access tokens in the store that the workers read: an example to copy, with the file it imports. It
// needs a client of Redis such as `ioredis`; docs/backend.md explains it, workers/tests/operations runs it.

import { Keyring, place } from '../lib/seal.mjs';

const STORE = 'token:instagram';

export class TokenStore {
  /**
   * @param redis a client that is logged in as the role `gateway`
   * @param keys the text of ENCRYPTION_KEYS
   */
  constructor(redis, keys) {
    this.redis = redis;
    this.keyring = new Keyring(keys);
  }

  /**
   * Stores the token of an account that its seller has connected, in place of an earlier one.
   *
   * @param userId who is notified when the account has to be connected again
   * @param login what the API answered: its long-lived token, and the seconds until it ends
   */
  async put(accountId, userId, { access_token: token, expires_in: seconds }) {
    const now = Date.now();
    const stored = { token, userId, obtainedAt: now, expiresAt: now + seconds * 1000 };
    const sealed = this.keyring.seal(where(accountId), JSON.stringify(stored));
    await this.redis.hset(STORE, accountId, sealed);
  }

  /** What is stored of an account, as the workers refreshed it last; undefined when there is nothing. */
  async get(accountId) {
    const sealed = await this.redis.hget(STORE, accountId);
    return sealed ? JSON.parse(this.keyring.open(where(accountId), sealed)) : undefined;
  }

  /** Deletes the token of an account that its seller has disconnected. */
  async remove(accountId) {
    await this.redis.hdel(STORE, accountId);
  }
}

/** Each token is sealed for its account, and opens for no other. */
function where(accountId) {
  return place.token(`${STORE}:${accountId}`);
}
