// An account's daily refresh, as a Node.js backend sets it up: an example to copy. It needs nothing
// but BullMQ, and one call for each change.

/** 32-bit FNV-1a of an account id, whose characters are ASCII. */
function fnv1a(text) {
  let hash = 0x811c9dc5;
  for (const character of text) {
    hash = Math.imul(hash ^ character.charCodeAt(0), 0x01000193);
  }
  return hash >>> 0;
}

/** The cron pattern of an account: its own second of the hour from 02:00 on. */
export function pattern(accountId, { start = 2 * 3600, length = 3600 } = {}) {
  const time = start + (fnv1a(accountId) % length);
  return `${time % 60} ${Math.floor(time / 60) % 60} ${Math.floor(time / 3600)} * * *`;
}

export const schedulerId = accountId => `analytics-${accountId}`;

/** Has an account refreshed every day, at night in its time zone; replaces what there was. */
export function schedule(queue, { accountId, userId, timeZone }) {
  return queue.upsertJobScheduler(
    schedulerId(accountId),
    { pattern: pattern(accountId), tz: timeZone },
    {
      name: 'refresh',
      data: { accountId, userId },
      opts: {
        attempts: 5,
        backoff: { type: 'exponential', delay: 30_000 },
        removeOnComplete: { count: 2_000, age: 6 * 3600 },
        removeOnFail: { count: 10_000, age: 7 * 24 * 3600 },
      },
    },
  );
}

/** Ends an account's refreshes; true when there were any. */
export function unschedule(queue, accountId) {
  return queue.removeJobScheduler(schedulerId(accountId));
}
