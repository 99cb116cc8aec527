-- Ending attempts: what active jobs become (docs/protocol.md#ends-of-attempts).

-- Answer to a result that an earlier execution of the same call has stored already.
local STORED_BEFORE = 1

-- How many finished jobs one call deletes for retention; the rest follows with `trim_finished`.
local PRUNE_MAX = 100

-- Answer to a repeated result of which nobody can tell any more whether it was stored.
local UNKNOWN = 2

-- Answer to a result that was left for another call, because finding its job takes too long.
local TRY_AGAIN = 3

-- How many entries of the list of active jobs one call passes over to find those of its results.
local SEARCHED_MAX = 200000

-- Judges a repeated result whose job does not carry its lock. An activation ends by its holder or
-- by a stalled recovery, and every recovery counts `stc`: that tells which it was. A retry by hand
-- forgets the recoveries; of the activations before it (`stf` is the last) nobody can tell any more.
local function judge_repeat(B, id, job, starts, stalls, refusal)
  if starts <= number_or_zero(redis.call('HGET', B .. id, 'stf')) then
    return UNKNOWN
  end
  local restarted = number_or_zero(job[1]) > starts
  local recovered = number_or_zero(job[7]) > stalls
  if number_or_zero(job[1]) < starts or number_or_zero(job[7]) < stalls or (restarted and recovered) then
    return UNKNOWN
  end
  if recovered or (not restarted and redis.call('LPOS', B .. 'active', id)) then
    return refusal
  end
  return STORED_BEFORE
end

-- Appends the fields that a failed attempt leaves in the hash.
local function failure_fields(fields, reason, stack)
  if stack ~= '' then
    fields[#fields + 1] = 'failedReason'
    fields[#fields + 1] = reason
    fields[#fields + 1] = 'stacktrace'
    fields[#fields + 1] = stack
  end
  return fields
end

-- Ends the attempts listed in ARGV. `list` says where: first (position before the first value),
-- stride, total, whether they may have been stored before (again), how many to look at (most), and now as text (stamp: the
-- server converts text for nothing, each number at the price of a read). Returns the codes, how many
-- jobs completed or failed for good, whether a job was delayed, and the retention work that is left.
local function finish_jobs(B, list, settings, now, points)
  local codes, lock_keys, child_keys, stamp = {}, {}, {}, list.stamp
  for i = 1, list.total do
    local at = list.first + (i - 1) * list.stride
    local job_key = B .. ARGV[at + 1]
    lock_keys[i] = job_key .. ':lock'
    child_keys[#child_keys + 1] = job_key .. ':dependencies'
    child_keys[#child_keys + 1] = job_key .. ':unsuccessful'
  end
  local locks = redis.call('MGET', unpack(lock_keys))
  local some_children = redis.call('EXISTS', unpack(child_keys)) > 0

  -- Read before the first write: a job whose keys are of the wrong type fails the call here, and its
  -- neighbours lose nothing.
  if some_children then
    redis.call('ZCARD', B .. 'waiting-children')
  end
  local jobs = {}
  for i = 1, math.min(list.total, list.most) do
    jobs[i] = redis.call('HMGET', B .. ARGV[list.first + (i - 1) * list.stride + 1],
      'ats', 'atm', 'parent', 'parentKey', 'deid', 'priority', 'stc')
    if some_children then
      redis.call('SCARD', child_keys[2 * i - 1])
      redis.call('ZCARD', child_keys[2 * i])
    end
  end

  local freed_locks, freed_ids = {}, {}
  local finished = { completed = {}, failed = {} }
  local rules = { completed = {}, failed = {} }
  local endings, promoted, delayed = {}, false, false

  -- Stores a job that completed or failed for good, or deletes it when nothing is to be kept.
  local function record(set, id, job, keep, fields)
    local job_key = B .. id
    local count, age, limit = keep[1], keep[2], keep[3]
    if count == 0 then
      delete_job_keys(job_key)
      if job[3] or job[4] then
        pcall(unlink_from_parent, job[3], job[4], job_key)
      end
      return
    end
    redis.call('HSET', job_key, unpack(fields))
    local adds = finished[set]
    adds[#adds + 1] = stamp
    adds[#adds + 1] = id
    if count > 0 or age >= 0 then
      rules[set][count .. ':' .. age .. ':' .. limit] = { count = count, age = age, limit = limit }
    end
  end

  local function finish_one(i, id, token, starts, stalls, verb, value, stack, number, age, limit, attempts)
    local job_key = B .. id
    number = tonumber(number)
    local job = jobs[i]
    if not job[1] and redis.call('EXISTS', job_key) == 0 then
      return JOB_MISSING
    end
    -- Some activations are no use of the job's attempts: they are taken back, the start included.
    local counts = verb ~= 'return' and verb ~= 'skip' and verb ~= 'postpone'
    local completes = verb == 'complete' or verb == 'skip'
    local waits_for_children = false
    if some_children and (completes or verb == 'children') then
      local pending = redis.call('SCARD', job_key .. ':dependencies') > 0
      if completes and pending then
        return PENDING_DEPENDENCIES
      end
      if redis.call('ZCARD', job_key .. ':unsuccessful') > 0 then
        return FAILED_CHILDREN
      end
      waits_for_children = pending
    end
    if token ~= '0' and locks[i] ~= token then
      local refusal = locks[i] and LOCK_LOST or LOCK_MISSING
      if list.again then
        return judge_repeat(B, id, job, tonumber(starts) - (counts and 0 or 1), tonumber(stalls), refusal)
      end
      return refusal
    end
    if redis.call('LREM', B .. 'active', '-1', id) == 0 then
      return WRONG_STATE
    end
    if token ~= '0' then
      freed_locks[#freed_locks + 1] = lock_keys[i]
      freed_ids[#freed_ids + 1] = id
    end

    local made = count_up(job[2])
    if not counts then
      made = number_or_zero(job[2])
      redis.call('HSET', job_key, 'ats', math.max(number_or_zero(job[1]) - 1, 0))
    end
    if completes or verb == 'fail' then
      -- Keys of others, checked by nobody before: if they are unusable, the job ends all the same.
      if job[5] then
        pcall(end_deduplication, B, id, job[5], settings, now)
      end
      local parent = (job[3] or job[4]) and find_parent(job[3], job[4])
      if parent then
        pcall(completes and parent_of_completed or parent_of_failed, parent, job_key, value, now)
      end
      local keep = { number, tonumber(age), tonumber(limit) }
      if completes then
        record('completed', id, job, keep, { 'returnvalue', value, 'finishedOn', stamp, 'atm', made })
        endings[#endings + 1] = { 'completed', id, value }
      else
        record('failed', id, job, keep,
          failure_fields({ 'failedReason', value, 'finishedOn', stamp, 'atm', made }, value, stack))
        if number ~= 0 then
          redis.call('HDEL', job_key, 'defa')
        end
        endings[#endings + 1] = { 'failed', id, value, tonumber(made) >= tonumber(attempts) and made }
      end
    elseif verb == 'retry' or verb == 'retry_next' then
      if not promoted then
        promoted = true
        promote_due(B, settings, now)
      end
      redis.call('HSET', job_key, unpack(failure_fields({ 'atm', made }, value, stack)))
      place_ready(B, id, number_or_zero(job[6]), verb == 'retry_next' and 'RPUSH' or 'LPUSH')
      wake_unless_blocked(B, settings)
      emit(B, 'waiting', 'jobId', id, 'prev', 'active')
    elseif verb == 'backoff' or verb == 'park' or verb == 'postpone' then
      local fields = { 'delay', number }
      if verb == 'backoff' then
        fields = failure_fields({ 'atm', made, 'delay', number }, value, stack)
      end
      redis.call('HSET', job_key, unpack(fields))
      local due = number > 0 and now + number or now
      place_delayed(B, id, due)
      emit(B, 'delayed', 'jobId', id, 'delay', due)
      delayed = true
    elseif waits_for_children then
      redis.call('ZADD', B .. 'waiting-children', now, id)
      emit(B, 'waiting-children', 'jobId', id, 'prev', 'active')
    else
      -- `release`, `return`, and `children` with none pending: back to be the next to run.
      place_next(B, id, number_or_zero(job[6]))
      wake_unless_blocked(B, settings)
      emit(B, 'waiting', 'jobId', id, 'prev', 'active')
    end
    return 0
  end

  trim_events(B, event_cap(B, settings))
  for i = 1, list.total do
    local at = list.first + (i - 1) * list.stride
    codes[i] = i <= list.most and finish_one(i, unpack(ARGV, at + 1, at + list.stride)) or TRY_AGAIN
  end
  if #freed_locks > 0 then
    redis.call('DEL', unpack(freed_locks))
    redis.call('SREM', B .. 'stalled', unpack(freed_ids))
  end

  local backlog = {}
  local budget = PRUNE_MAX
  for set, adds in pairs(finished) do
    if #adds > 0 then
      redis.call('ZADD', B .. set, unpack(adds))
    end
    for _, rule in pairs(rules[set]) do
      local by_age, by_count, more = prune(B, B .. set, rule, now, budget)
      budget = budget - by_age - by_count
      if more then
        backlog[#backlog + 1] = { set, rule.count, rule.age, rule.limit - by_age }
      end
    end
  end

  local totals = { completed = 0, failed = 0 }
  for _, ending in ipairs(endings) do
    local kind, id, value = ending[1], ending[2], ending[3]
    totals[kind] = totals[kind] + 1
    if kind == 'completed' then
      emit(B, 'completed', 'jobId', id, 'returnvalue', value, 'prev', 'active')
    else
      emit(B, 'failed', 'jobId', id, 'failedReason', value, 'prev', 'active')
      if ending[4] then
        emit(B, 'retries-exhausted', 'jobId', id, 'attemptsMade', ending[4])
      end
    end
  end
  if points > 0 then
    for kind, total in pairs(totals) do
      if total > 0 then
        count_finished(B, kind, total, points, now)
      end
    end
  end
  return codes, #endings, delayed, backlog
end
