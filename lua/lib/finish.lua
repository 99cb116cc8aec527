-- Ending attempts in every way (docs/protocol.md#ends-of-attempts), for `results`, which stores the usual end itself. A
-- result is number `i` of the batch and named by the place `at` of its arguments: ARGV[at] is its verb, and what follows
-- is in the header of advance.

-- Replies about one result, beside 0 (stored) and refusals. The worker calls them by the same names.
-- An earlier execution of the same call has stored it.
local STORED_BEFORE = 1
-- A repeated result, of which it cannot be known any more whether it was stored.
local UNKNOWN = 2
-- Left for another call, because finding the job in a long list takes too much time.
local TRY_AGAIN = 3

-- Fields of a job's hash, in the order in which they are read.
local ATS, ATM = 1, 2

-- Reads one value of each key that an end other than the usual writes: a key of the wrong type fails here, before
-- the first write. `child_keys`: where jobs have their children.
local function check_keys(B, child_keys)
  redis.call('ZCARD', B .. 'waiting-children')
  check_places(B)
  for i = 1, #child_keys, 2 do
    redis.call('SCARD', child_keys[i])
    redis.call('ZCARD', child_keys[i + 1])
  end
end

-- Some activations do not count as attempts: they are taken back, the start included.
local function is_counted(verb)
  return verb ~= 'return' and verb ~= 'skip' and verb ~= 'postpone'
end

-- Judges a repeated result whose job does not carry its lock. An activation ends by its holder or
-- by a stalled recovery, and every recovery counts `stc`, which shows which it was. A retry by hand
-- forgets the recoveries; of the activations before it (`stf` is the last) nothing is known any more.
local function judge_repeat(batch, i, at, refusal)
  local counts = redis.call('HMGET', batch.keys[i], 'stc', 'stf')
  local ats, stc = number_or_zero(batch.hashes[i][ATS]), number_or_zero(counts[1])
  local starts, stalls = tonumber(ARGV[at + 7]) - (is_counted(ARGV[at]) and 0 or 1), tonumber(ARGV[at + 8])
  if starts <= number_or_zero(counts[2]) then
    return UNKNOWN
  end
  local restarted, recovered = ats > starts, stc > stalls
  if ats < starts or stc < stalls or (restarted and recovered) then
    return UNKNOWN
  end
  if recovered or (not restarted and redis.call('LPOS', batch.B .. 'active', ARGV[at + 1])) then
    return refusal
  end
  return STORED_BEFORE
end

-- Appends the fields that a failed attempt leaves in the hash.
local function failure_fields(fields, at)
  local traces = ARGV[at + 5]
  if traces ~= '' then
    local n = #fields
    fields[n + 1], fields[n + 2] = 'failedReason', ARGV[at + 3]
    fields[n + 3], fields[n + 4] = 'stacktrace', traces
  end
  return fields
end

-- Adds a job that completed or failed for good to its set, or deletes it when nothing is to be kept. Returns
-- whether it is kept.
local function keep_or_delete(batch, i, at, set)
  local keep = ARGV[at + 4]
  if keep == '0' then
    delete_ended(batch.keys[i], batch.hashes[i])
    return false
  elseif keep ~= '' then
    batch.rules[set .. ':' .. keep] = true
  end
  local adds = batch[set]
  local n = #adds
  adds[n + 1], adds[n + 2] = ARGV[1], ARGV[at + 1]
  return true
end

-- The job completed or failed for good; `made` counts its attempts.
local function end_job(batch, i, at, made)
  local key, failed = batch.keys[i], ARGV[at] == 'fail'
  local job = { id = ARGV[at + 1], key = key, fields = batch.hashes[i], failed = failed, value = ARGV[at + 3] }
  end_for_others(batch.B, job)
  if keep_or_delete(batch, i, at, failed and 'failed' or 'completed') then
    if failed then
      local fields = { 'failedReason', ARGV[at + 3], 'finishedOn', ARGV[1], 'atm', made }
      redis.call('HSET', key, unpack(failure_fields(fields, at)))
      redis.call('HDEL', key, 'defa')
    else
      redis.call('HSET', key, 'returnvalue', ARGV[at + 3], 'finishedOn', ARGV[1], 'atm', made)
    end
  end
  if failed and tonumber(made) >= tonumber(ARGV[at + 6]) then
    batch.exhausted = batch.exhausted or {}
    batch.exhausted[at] = made
  end
  batch.ended[#batch.ended + 1] = at
end

-- The attempt failed, and the job runs again at once.
local function retry_now(batch, i, at, made)
  local B, key, id = batch.B, batch.keys[i], ARGV[at + 1]
  if not batch.promoted then
    batch.promoted = true
    promote_due(B, batch.settings, batch.now)
  end
  redis.call('HSET', key, unpack(failure_fields({ 'atm', made }, at)))
  local priority = number_or_zero(redis.call('HGET', key, 'priority'))
  place_ready(B, id, priority, ARGV[at] == 'retry_next' and 'RPUSH' or 'LPUSH')
  wake_unless_blocked(B, batch.settings)
  emit(B, 'waiting', 'jobId', id, 'prev', 'active')
end

-- The job runs again after a delay.
local function delay_job(batch, i, at, made)
  local B, id, delay = batch.B, ARGV[at + 1], tonumber(ARGV[at + 4])
  local fields = { 'delay', delay }
  if ARGV[at] == 'backoff' then
    fields = failure_fields({ 'atm', made, 'delay', delay }, at)
  end
  redis.call('HSET', batch.keys[i], unpack(fields))
  local due = delay > 0 and batch.now + delay or batch.now
  place_delayed(B, id, due)
  emit(B, 'delayed', 'jobId', id, 'delay', due)
  batch.delayed = true
end

-- Ends one attempt. Returns 0 or another reply; a refused result changes nothing.
local function finish_one(batch, i, at)
  local B, key, hash, verb = batch.B, batch.keys[i], batch.hashes[i], ARGV[at]
  local id, token = ARGV[at + 1], ARGV[at + 2]
  batch.settings = batch.settings or read_settings(B)
  if not hash then
    return TRY_AGAIN
  elseif not hash[ATS] and redis.call('EXISTS', key) == 0 then
    return JOB_MISSING
  end
  local completes = verb == 'complete' or verb == 'skip'
  local waits_for_children = false
  if completes or verb == 'children' then
    local pending = redis.call('SCARD', key .. ':dependencies') > 0
    if completes and pending then
      return PENDING_DEPENDENCIES
    end
    if redis.call('ZCARD', key .. ':unsuccessful') > 0 then
      return FAILED_CHILDREN
    end
    waits_for_children = pending
  end
  if token ~= '0' and batch.locks[i] ~= token then
    local refusal = batch.locks[i] and LOCK_LOST or LOCK_MISSING
    return options and options.again and judge_repeat(batch, i, at, refusal) or refusal
  end
  if redis.call('LREM', B .. 'active', '-1', id) == 0 then
    return WRONG_STATE
  end
  if token ~= '0' then
    batch.freed_locks[#batch.freed_locks + 1] = key .. ':lock'
  end

  local made = count_up(hash[ATM])
  if not is_counted(verb) then
    made = number_or_zero(hash[ATM])
    redis.call('HSET', key, 'ats', math.max(number_or_zero(hash[ATS]) - 1, 0))
  end
  if completes or verb == 'fail' then
    end_job(batch, i, at, made)
  elseif verb == 'retry' or verb == 'retry_next' then
    retry_now(batch, i, at, made)
  elseif verb == 'backoff' or verb == 'park' or verb == 'postpone' then
    delay_job(batch, i, at, made)
  elseif waits_for_children then
    redis.call('ZADD', B .. 'waiting-children', batch.now, id)
    emit(B, 'waiting-children', 'jobId', id, 'prev', 'active')
  else
    -- `release`, `return`, and `children` with none pending: back to be the next to run.
    place_next(B, id, number_or_zero(redis.call('HGET', key, 'priority')))
    wake_unless_blocked(B, batch.settings)
    emit(B, 'waiting', 'jobId', id, 'prev', 'active')
  end
  return 0
end

-- Reports the jobs of a batch that completed or failed for good.
local function emit_ended(batch)
  local B = batch.B
  for _, at in ipairs(batch.ended) do
    local id, value = ARGV[at + 1], ARGV[at + 3]
    if ARGV[at] ~= 'fail' then
      emit(B, 'completed', 'jobId', id, 'returnvalue', value, 'prev', 'active')
    else
      emit(B, 'failed', 'jobId', id, 'failedReason', value, 'prev', 'active')
      local made = batch.exhausted and batch.exhausted[at]
      if made then
        emit(B, 'retries-exhausted', 'jobId', id, 'attemptsMade', made)
      end
    end
  end
end
