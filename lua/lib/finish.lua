-- Ending attempts: what active jobs become (docs/protocol.md#ends-of-attempts).

-- Replies about one result, beside 0 (stored) and refusals. The worker calls them by the same names.
-- An earlier execution of the same call has stored it.
local STORED_BEFORE = 1
-- A repeated result, of which it cannot be known any more whether it was stored.
local UNKNOWN = 2
-- Left for another call, because finding the job in a long list takes too much time.
local TRY_AGAIN = 3

-- How many finished jobs one call deletes for retention; `trim_finished` deletes the rest.
local PRUNE_MAX = 100

-- How many entries of the list of active jobs one call skips to find those of its results.
local SEARCHED_MAX = 200000

-- How many arguments describe one result.
local STRIDE = 11

-- Fields of a job's hash, in the order in which they are read.
local ATS, ATM, PARENT, PARENT_KEY, DEID, PRIORITY, STC = 1, 2, 3, 4, 5, 6, 7

-- Reads the results that ARGV has from position `first` on, with what their jobs' hashes say. A key of the
-- wrong type fails the call here, before the first write. Returns them, those after the first `most` as
-- false, and whether some of the jobs have children whose ends are still to be considered. A result has few
-- fields, because each costs; the others are read from ARGV, from `at` on.
local function read_results(B, first, total, most)
  local lock_keys, child_keys = {}, {}
  for i = 1, total do
    local key = B .. ARGV[first + STRIDE * (i - 1)]
    lock_keys[i] = key .. ':lock'
    child_keys[2 * i - 1], child_keys[2 * i] = key .. ':dependencies', key .. ':unsuccessful'
  end
  local locks = redis.call('MGET', unpack(lock_keys))
  local some_children = redis.call('EXISTS', unpack(child_keys)) > 0
  if some_children then
    redis.call('ZCARD', B .. 'waiting-children')
  end
  local results = {}
  for i = 1, total do
    local at = first + STRIDE * (i - 1)
    if i <= most then
      local key = B .. ARGV[at]
      local hash = redis.call('HMGET', key, 'ats', 'atm', 'parent', 'parentKey', 'deid', 'priority', 'stc')
      if some_children then
        redis.call('SCARD', child_keys[2 * i - 1])
        redis.call('ZCARD', child_keys[2 * i])
      end
      results[i] = {
        at = at, id = ARGV[at], key = key, lock = locks[i], hash = hash, verb = ARGV[at + 4], value = ARGV[at + 5],
      }
    else
      results[i] = false
    end
  end
  return results, some_children
end

-- Judges a repeated result whose job does not carry its lock. An activation ends by its holder or
-- by a stalled recovery, and every recovery counts `stc`, which shows which it was. A retry by hand
-- forgets the recoveries; of the activations before it (`stf` is the last) nothing is known any more.
-- `counts`: whether the result leaves the start counted.
local function judge_repeat(B, result, counts, refusal)
  local ats, stc = number_or_zero(result.hash[ATS]), number_or_zero(result.hash[STC])
  local starts, stalls = tonumber(ARGV[result.at + 2]) - (counts and 0 or 1), tonumber(ARGV[result.at + 3])
  if starts <= number_or_zero(redis.call('HGET', result.key, 'stf')) then
    return UNKNOWN
  end
  local restarted, recovered = ats > starts, stc > stalls
  if ats < starts or stc < stalls or (restarted and recovered) then
    return UNKNOWN
  end
  if recovered or (not restarted and redis.call('LPOS', B .. 'active', result.id)) then
    return refusal
  end
  return STORED_BEFORE
end

-- Appends the fields that a failed attempt leaves in the hash.
local function failure_fields(fields, result)
  local traces = ARGV[result.at + 6]
  if traces ~= '' then
    local n = #fields
    fields[n + 1], fields[n + 2] = 'failedReason', result.value
    fields[n + 3], fields[n + 4] = 'stacktrace', traces
  end
  return fields
end

-- Adds a job that completed or failed for good to its set, or deletes it when nothing is to be kept. Returns
-- whether it is kept.
local function keep_or_delete(batch, set, result)
  local at, hash = result.at, result.hash
  local count, age, limit = tonumber(ARGV[at + 7]), tonumber(ARGV[at + 8]), tonumber(ARGV[at + 9])
  if count == 0 then
    delete_job_keys(result.key)
    if hash[PARENT] or hash[PARENT_KEY] then
      pcall(unlink_from_parent, hash[PARENT], hash[PARENT_KEY], result.key)
    end
    return false
  end
  local adds = batch.finished[set]
  local n = #adds
  adds[n + 1], adds[n + 2] = batch.stamp, result.id
  if count > 0 or age >= 0 then
    batch.rules[count .. ':' .. age .. ':' .. limit .. set] = { set = set, count = count, age = age, limit = limit }
  end
  return true
end

-- The job completed or failed for good; `made` counts its attempts.
local function end_job(batch, result, made)
  local B, key, hash, value, failed = batch.B, result.key, result.hash, result.value, result.verb == 'fail'
  -- Keys of other jobs, unchecked until now: if they are unusable, this job ends all the same.
  if hash[DEID] then
    pcall(end_deduplication, B, { id = result.id, deid = hash[DEID] }, batch.settings, batch.now)
  end
  local parent = (hash[PARENT] or hash[PARENT_KEY]) and find_parent(hash[PARENT], hash[PARENT_KEY])
  if parent then
    pcall(failed and parent_of_failed or parent_of_completed, parent, key, value, batch.now)
  end
  if not failed then
    result.set = 'completed'
    if keep_or_delete(batch, 'completed', result) then
      redis.call('HSET', key, 'returnvalue', value, 'finishedOn', batch.stamp, 'atm', made)
    end
  else
    result.set = 'failed'
    if keep_or_delete(batch, 'failed', result) then
      local fields = { 'failedReason', value, 'finishedOn', batch.stamp, 'atm', made }
      redis.call('HSET', key, unpack(failure_fields(fields, result)))
      redis.call('HDEL', key, 'defa')
    end
    batch.exhausted[result] = tonumber(made) >= tonumber(ARGV[result.at + 10]) and made or nil
  end
  batch.ended[#batch.ended + 1] = result
end

-- The attempt failed, and the job runs again at once.
local function retry_now(batch, result, made)
  local B, id = batch.B, result.id
  if not batch.promoted then
    batch.promoted = true
    promote_due(B, batch.settings, batch.now)
  end
  redis.call('HSET', result.key, unpack(failure_fields({ 'atm', made }, result)))
  place_ready(B, id, number_or_zero(result.hash[PRIORITY]), result.verb == 'retry_next' and 'RPUSH' or 'LPUSH')
  wake_unless_blocked(B, batch.settings)
  emit(B, 'waiting', 'jobId', id, 'prev', 'active')
end

-- The job runs again after a delay.
local function delay_job(batch, result, made)
  local B, id, delay = batch.B, result.id, tonumber(ARGV[result.at + 7])
  local fields = { 'delay', delay }
  if result.verb == 'backoff' then
    fields = failure_fields({ 'atm', made, 'delay', delay }, result)
  end
  redis.call('HSET', result.key, unpack(fields))
  local due = delay > 0 and batch.now + delay or batch.now
  place_delayed(B, id, due)
  emit(B, 'delayed', 'jobId', id, 'delay', due)
  batch.delayed = true
end

-- Ends one attempt. Returns 0 or another reply; a refused result changes nothing.
local function finish_one(batch, result)
  local B, id, key, hash, verb = batch.B, result.id, result.key, result.hash, result.verb
  local token = ARGV[result.at + 1]
  if not hash[ATS] and redis.call('EXISTS', key) == 0 then
    return JOB_MISSING
  end
  -- Some activations do not count as attempts: they are taken back, the start included.
  local counts = verb ~= 'return' and verb ~= 'skip' and verb ~= 'postpone'
  local completes = verb == 'complete' or verb == 'skip'
  local waits_for_children = false
  if batch.some_children and (completes or verb == 'children') then
    local pending = redis.call('SCARD', key .. ':dependencies') > 0
    if completes and pending then
      return PENDING_DEPENDENCIES
    end
    if redis.call('ZCARD', key .. ':unsuccessful') > 0 then
      return FAILED_CHILDREN
    end
    waits_for_children = pending
  end
  if token ~= '0' and result.lock ~= token then
    local refusal = result.lock and LOCK_LOST or LOCK_MISSING
    return batch.again and judge_repeat(B, result, counts, refusal) or refusal
  end
  if redis.call('LREM', B .. 'active', '-1', id) == 0 then
    return WRONG_STATE
  end
  if token ~= '0' then
    batch.freed_locks[#batch.freed_locks + 1] = key .. ':lock'
    batch.freed_ids[#batch.freed_ids + 1] = id
  end

  local made = count_up(hash[ATM])
  if not counts then
    made = number_or_zero(hash[ATM])
    redis.call('HSET', key, 'ats', math.max(number_or_zero(hash[ATS]) - 1, 0))
  end
  if completes or verb == 'fail' then
    end_job(batch, result, made)
  elseif verb == 'retry' or verb == 'retry_next' then
    retry_now(batch, result, made)
  elseif verb == 'backoff' or verb == 'park' or verb == 'postpone' then
    delay_job(batch, result, made)
  elseif waits_for_children then
    redis.call('ZADD', B .. 'waiting-children', batch.now, id)
    emit(B, 'waiting-children', 'jobId', id, 'prev', 'active')
  else
    -- `release`, `return`, and `children` with none pending: back to be the next to run.
    place_next(B, id, number_or_zero(result.hash[PRIORITY]))
    wake_unless_blocked(B, batch.settings)
    emit(B, 'waiting', 'jobId', id, 'prev', 'active')
  end
  return 0
end

-- Adds the jobs that ended to their sets and applies retention. Returns the retention left to do.
local function settle_finished(batch)
  local B, backlog, budget = batch.B, {}, PRUNE_MAX
  for set, adds in pairs(batch.finished) do
    if #adds > 0 then
      redis.call('ZADD', B .. set, unpack(adds))
    end
  end
  for _, rule in pairs(batch.rules) do
    local by_age, by_count, more = prune(B, rule, batch.now, budget)
    budget = budget - by_age - by_count
    if more then
      backlog[#backlog + 1] = { rule.set, rule.count, rule.age, rule.limit - by_age }
    end
  end
  return backlog
end

local function emit_ended(batch)
  local B = batch.B
  for _, job in ipairs(batch.ended) do
    if job.set == 'completed' then
      emit(B, 'completed', 'jobId', job.id, 'returnvalue', job.value, 'prev', 'active')
    else
      emit(B, 'failed', 'jobId', job.id, 'failedReason', job.value, 'prev', 'active')
      local made = batch.exhausted[job]
      if made then
        emit(B, 'retries-exhausted', 'jobId', job.id, 'attemptsMade', made)
      end
    end
  end
end

-- Ends the attempts that ARGV lists. list: first (position of the first value), total, most (how many to
-- consider), again (whether they may have been stored before), now and points (of the metrics). The time is
-- there as text too (stamp), because numbers cost the server a conversion. Returns the
-- replies, how many jobs completed or failed for good, whether a job was delayed, and the retention left.
local function finish_jobs(B, settings, list)
  local results, some_children = read_results(B, list.first, list.total, list.most)
  local batch = {
    B = B,
    settings = settings,
    now = list.now,
    stamp = list.stamp,
    again = list.again,
    some_children = some_children,
    -- Whether due jobs were promoted, and whether a job was delayed.
    promoted = false,
    delayed = false,
    freed_locks = {},
    freed_ids = {},
    -- By set: scores and ids to add.
    finished = { completed = {}, failed = {} },
    -- Retention to apply, each rule once.
    rules = {},
    -- Results that ended their jobs, and of those that used the last attempt how many were made.
    ended = {},
    exhausted = {},
  }
  apply_event_cap(B, settings)
  local replies = {}
  for i, result in ipairs(results) do
    replies[i] = result and finish_one(batch, result) or TRY_AGAIN
  end
  if #batch.freed_locks > 0 then
    redis.call('DEL', unpack(batch.freed_locks))
    redis.call('SREM', B .. 'stalled', unpack(batch.freed_ids))
  end
  local backlog = settle_finished(batch)
  emit_ended(batch)
  if list.points > 0 then
    -- Numbers that others have spoiled must not fail results that are stored.
    pcall(count_ended, B, batch.ended, list.points, list.now)
  end
  return replies, #batch.ended, batch.delayed, backlog
end
