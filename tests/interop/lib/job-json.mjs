// A job as plain JSON, field by field, so that both sides of a comparison see the same.

const FIELDS = [
  'id', 'name', 'data', 'opts', 'progress', 'returnvalue', 'stacktrace', 'delay', 'priority',
  'timestamp', 'attemptsStarted', 'attemptsMade', 'stalledCounter', 'failedReason',
  'deferredFailure', 'finishedOn', 'processedOn', 'parentKey', 'parent', 'deduplicationId',
  'repeatJobKey', 'processedBy', 'token', 'queueName', 'prefix',
];

/** All fields of a job (absent ones are null), or null if there is no job. */
export function jobJson(job) {
  if (!job) {
    return null;
  }
  return Object.fromEntries(FIELDS.map(field => [field, job[field] ?? null]));
}

/** A flow's jobs as a tree of `jobJson`. */
export function treeJson(node) {
  if (!node) {
    return null;
  }
  return { job: jobJson(node.job), children: (node.children ?? []).map(treeJson) };
}
