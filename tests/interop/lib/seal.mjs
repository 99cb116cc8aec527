// Opens and seals what oxbull seals, with nothing but Node.js's own crypto module. An example to
// copy; docs/encryption.md has the format.

import { createCipheriv, createDecipheriv, createHash, createHmac, randomBytes } from 'node:crypto';

const base64url = bytes => bytes.toString('base64url');

/** `keys` is the text of ENCRYPTION_KEYS: id:base64 pairs with commas between them, the active one first. */
export class Keyring {
  #keys = new Map();
  #active;

  constructor(keys) {
    for (const pair of keys.split(',')) {
      const [id, key] = pair.trim().split(':');
      this.#active ??= id;
      this.#keys.set(id, Buffer.from(key, 'base64'));
    }
  }

  /** Seals text for a place { purpose, key } and returns text. */
  seal(place, plaintext) {
    const id = this.#active;
    const unique = randomBytes(24);
    const cipher = createCipheriv('aes-256-gcm', this.#derive(id, unique), unique.subarray(12));
    cipher.setAAD(binding(id, place));
    const body = Buffer.concat([cipher.update(plaintext, 'utf8'), cipher.final(), cipher.getAuthTag()]);
    return `v1.${id}.${base64url(unique)}.${base64url(body)}`;
  }

  /** Opens text that was sealed for this place; throws when it was not. */
  open(place, sealed) {
    const [version, id, unique64, body64, ...rest] = sealed.split('.');
    if (version !== 'v1' || body64 === undefined || rest.length > 0) throw new Error('not sealed');
    if (!this.#keys.has(id)) throw new Error(`unknown key ${id}`);
    const unique = Buffer.from(unique64, 'base64url');
    const body = Buffer.from(body64, 'base64url');
    if (unique.length !== 24 || body.length < 16) throw new Error('not sealed');
    const end = body.length - 16;
    const key = this.#derive(id, unique);
    const decipher = createDecipheriv('aes-256-gcm', key, unique.subarray(12), { authTagLength: 16 });
    decipher.setAAD(binding(id, place));
    decipher.setAuthTag(body.subarray(end));
    return Buffer.concat([decipher.update(body.subarray(0, end)), decipher.final()]).toString('utf8');
  }

  // Every value has a key of its own.
  #derive(id, unique) {
    return createHmac('sha256', this.#keys.get(id))
      .update('oxbull seal v1\0')
      .update(unique.subarray(0, 12))
      .digest();
  }
}

function binding(id, { purpose, key }) {
  return Buffer.from(`v1.${id}\0${purpose}\0${key}`, 'utf8');
}

/** The places that oxbull seals for. */
export const place = {
  token: key => ({ purpose: 'token', key }),
  session: key => ({ purpose: 'session', key }),
  oauthState: key => ({ purpose: 'oauth-state', key }),
  job: (queue, subject) => ({ purpose: 'job', key: subject === undefined ? queue : `${queue}:${subject}` }),
};

/** The Redis key of the session whose token a browser sent. */
export function sessionKey(token) {
  const dot = token.indexOf('.');
  const id = createHash('sha256').update(token.slice(0, dot)).digest('base64url');
  return `session:${token.slice(dot + 1)}:${id}`;
}
