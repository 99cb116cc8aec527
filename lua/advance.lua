--[[
  advance: active -> completed | failed | waiting | prioritized | delayed | waiting-children,
           then waiting | prioritized -> active
  Ends 0 to N attempts and starts 0 to M next jobs, in one step. A refused result changes nothing for its
  job and does not affect the others. One job less is started for it, because its own job may still need
  the worker's permit.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 now (ms)   2 how many jobs to start   3 lock token for them   4 lock duration (ms)
          5 options (empty: none), <again>:<points>:<jobs>:<window>:<name>
            again: 1 when these results may have been stored by an earlier call, else 0
            points: data points of the per-minute metrics (0: off)
            jobs: the rate limit (empty: none); window (ms): if these starts are counted
            name: the worker's name (empty: none)
          6 number of results, then per result:
            verb: complete, fail, retry, retry_next, backoff, park, release, children, return, skip or postpone
            (retry_next: as retry, but before the jobs that wait; return, skip, postpone: as release,
            complete and park, but the start is not counted)
            id   lock token   return value (JSON) or failure reason (text)
            what to keep of the set (complete, fail, skip): empty for all, 0 for not even this job, or
            <count>:<age in ms>:<limit>, -1 for any; delay (ms) of backoff, park and postpone
            and, of all results unless each is a complete of this first call:
            stack traces (JSON, empty: leave)   attempts option
            and, with again, ats and stc as of the activation
  Returns one list, as each list in a list costs the server dearly:
          next: more | limited (value: ms to wait) | blocked | at (value: ms of the next due job)
          | empty | idle (no job was asked for)
          value   dangling: how many ids without a job were dropped
          number of rules of retention that have work left
          a code per result: 0 stored, 1 stored by an earlier execution of the call, 2 unknown whether it was
          stored, 3 to be sent again, because very many jobs are active; or a refusal: JOB_MISSING,
          LOCK_MISSING, LOCK_LOST, WRONG_STATE, PENDING_DEPENDENCIES, FAILED_CHILDREN
          per rule with work left: set, count, age, limit
          jobs: id, hash as it was before the start (a list), id, hash, ...
  Emits   completed, failed, retries-exhausted, waiting, delayed, waiting-children, active,
          drained; added, waiting or delayed of a deduplicated add that waited
  Uses    options, events, start; rarely codes, gate, marker, place, job, parent, child, dedup, dedup_end, unlinking,
          retention, retention_rules, metrics, promote, finish, others, take, rate, results
]]
local B, now, want, verb = KEYS[1], ARGV[1], ARGV[2], ARGV[7]
local events, failed = B .. 'events', verb == 'fail'
local limit
if ARGV[5] ~= '' then
  local repeated, points, max, window, name = string.match(ARGV[5], '^(%d):(%d+):(%d*):(%d*):(.*)$')
  options = {
    again = repeated == '1', points = points ~= '0' and tonumber(points), max = tonumber(max), window = tonumber(window),
    name = name ~= '' and name,
  }
  limit = options.max
end

-- First a look at each key that the call will write: one of the wrong type fails it here.
local meta = redis.call('HMGET', B .. 'meta', 'paused', 'concurrency', 'max', 'opts.maxLenEvents')
local cap, has_event_cap = event_cap(meta[4])
-- The usual end: of one job without children, under its lock. Every other is in `results`.
local usual_end, key, job, set, delay, retries
if ARGV[6] == '1' and not (options and options.again) then
  key, retries = B .. ARGV[8], verb == 'retry' or verb == 'retry_next'
  job = redis.call('HMGET', key, 'ats', 'atm', 'parent', 'parentKey', retries and 'priority' or 'deid')
  if verb == 'complete' or failed then
    set = B .. (failed and 'failed' or 'completed')
    redis.call('ZCARD', set)
  elseif verb == 'backoff' then
    delay = ARGV[11] + 0
  end
  usual_end = (set or delay and delay >= 1 or retries and (job[5] == '0' or not job[5])) and job[1]
    and redis.pcall('GET', key .. ':lock') == ARGV[9]
    and redis.call('EXISTS', key .. ':dependencies', key .. ':unsuccessful') == 0
end
-- The usual start: of one job or none, with no limit reached, and of jobs that wait for a time at most one due. Every
-- other is in `take`.
local usual_start = (want == '1' or want == '0') and (usual_end or ARGV[6] == '0')
  and not (meta[1] or meta[2] or meta[3])
local due, due_id, tail, next_id, hash, limits
if usual_start then
  local first = redis.call('ZRANGE', B .. 'delayed', '0', '0', 'WITHSCORES')
  due = first[2] and first[2] / 4096
  tail = redis.call('LINDEX', B .. 'wait', '-1')
  next_id = tail or redis.call('ZRANGE', B .. 'prioritized', '0', '0')[1]
  if due and due < now + 1 then
    due_id, first = first[1], redis.call('ZRANGE', B .. 'delayed', '1', '1', 'WITHSCORES')
    due = first[2] and first[2] / 4096
    local fields = redis.pcall('HMGET', B .. due_id, 'timestamp', 'priority')
    usual_start = not retries and fields[1] and (fields[2] == '0' or not fields[2])
      and not (due and due < now + 1)
  elseif want == '1' and next_id and not (failed and (job[3] or job[4])) then
    -- A job of which the end may change something is read after it.
    hash = redis.pcall('HGETALL', B .. next_id)
    usual_start = #hash > 0
  end
  if usual_start and limit then
    local count = redis.call('GET', B .. 'limiter')
    usual_start = options.window and count and string.find(count, '^%d+$') and count + 0 < limit
  end
end
usual_end = usual_end and (usual_start or not retries)
redis.call('XTRIM', events, 'MAXLEN', '~', cap)
if not usual_start then
  limits = rest().taking().read_limits(B, meta)
end

-- Ends the attempts.
local reply, ended, delayed, changed = { 'idle', 0, 0, 0 }, 0, false, false
if usual_end then
  -- Who holds a lock is alive. These are the first writes to places of jobs.
  redis.call('SREM', B .. 'stalled', ARGV[8])
  if redis.call('LREM', B .. 'active', '-1', ARGV[8]) == 0 then
    limits = limits or rest().taking().read_limits(B, meta)
    usual_end, usual_start = false, false
  end
end
if ARGV[6] ~= '0' and not has_event_cap then
  set_event_cap(B)
end
if usual_end then
  local id, value, keep, traces = ARGV[8], ARGV[10], ARGV[11], ARGV[12]
  -- Text where it can be: numbers cost the server a conversion.
  local made = job[2] and (tonumber(job[2]) or 0) + 1 or '1'
  reply[5] = 0
  redis.call('DEL', key .. ':lock')
  if retries then
    if traces == '' then
      redis.call('HSET', key, 'atm', made)
    else
      redis.call('HSET', key, 'atm', made, 'failedReason', value, 'stacktrace', traces)
    end
    redis.call(verb == 'retry' and 'LPUSH' or 'RPUSH', B .. 'wait', id)
    redis.pcall('ZADD', B .. 'marker', '0', '0')
    redis.call('XADD', events, '*', 'event', 'waiting', 'jobId', id, 'prev', 'active')
    changed = not tail or verb == 'retry_next'
  elseif delay then
    local at = now + delay
    local slot, text = string.format('%.0f', at * 4096), string.format('%.0f', at)
    -- After the jobs already due in the same millisecond.
    local last = redis.call('ZREVRANGEBYSCORE', B .. 'delayed', at * 4096 + 4095, slot, 'WITHSCORES', 'LIMIT', '0', '1')[2]
    if traces == '' then
      redis.call('HSET', key, 'atm', made, 'delay', keep)
    else
      redis.call('HSET', key, 'atm', made, 'delay', keep, 'failedReason', value, 'stacktrace', traces)
    end
    redis.call('ZADD', B .. 'delayed', last and math.min(last + 1, at * 4096 + 4095) or slot, id)
    redis.call('XADD', events, '*', 'event', 'delayed', 'jobId', id, 'delay', text)
    due, delayed = due and due < at and due or at, true
  else
    ended = 1
    local decodes, link
    if job[3] and not (failed or job[5]) then
      decodes, link = pcall(cjson.decode, job[3])
    end
    if decodes and type(link) == 'table' and type(link.queueKey) == 'string' and type(link.id) == 'string' then
      -- The parent waits for other children, usually. Whatever is wrong with its keys, its child ends.
      local parent = link.queueKey .. ':' .. link.id
      if redis.pcall('SREM', parent .. ':dependencies', key) == 1
        and type(redis.pcall('HSET', parent .. ':processed', key, value)) == 'number'
        and redis.call('EXISTS', parent .. ':dependencies') == 0 then
        changed = true
        pcall(rest().flows().release_if_free, { key = parent, base = link.queueKey .. ':', id = link.id }, now + 0)
      end
    elseif job[3] or job[4] or job[5] then
      changed = true
      rest().end_for_others(B, { id = id, key = key, fields = job, failed = failed, value = value })
    end
    local gone = keep == '0' and key
    if gone and (job[3] or job[4]) then
      gone = nil
      rest().delete_ended(key, job)
    elseif gone then
      -- Below.
    elseif not failed then
      redis.call('HSET', key, 'returnvalue', value, 'finishedOn', now, 'atm', made)
    else
      if traces == '' then
        redis.call('HSET', key, 'failedReason', value, 'finishedOn', now, 'atm', made)
      else
        redis.call('HSET', key, 'failedReason', value, 'finishedOn', now, 'atm', made, 'stacktrace', traces)
      end
      redis.call('HDEL', key, 'defa')
    end
    if keep ~= '0' then
      redis.call('ZADD', set, now, id)
      if keep ~= '' then
        -- Most calls find nothing to delete, or one job.
        local count, age = string.match(keep, '^(-?%d+):(-?%d+):')
        local oldest = redis.call('ZRANGE', set, '0', '0', 'WITHSCORES')
        local excess = count == '-1' and 0 or redis.call('ZCARD', set) - count
        local old = age ~= '-1' and oldest[2] + 0 <= now - age
        local links = excess == 1 and not old and redis.pcall('HMGET', B .. oldest[1], 'parent', 'parentKey')
        if links and not (links.err or links[1] or links[2]) then
          gone = B .. oldest[1]
          redis.call('ZREM', set, oldest[1])
        elseif excess > 0 or old then
          changed = true
          rest().retention().apply_rules(B, { [(failed and 'failed:' or 'completed:') .. keep] = true }, reply)
        end
      end
    end
    if gone then
      redis.call('UNLINK', gone, gone .. ':logs', gone .. ':dependencies', gone .. ':processed', gone .. ':failed',
        gone .. ':unsuccessful')
    end
    redis.call('XADD', events, '*', 'event', failed and 'failed' or 'completed', 'jobId', id,
      failed and 'failedReason' or 'returnvalue', value, 'prev', 'active')
    if failed and tonumber(made) >= tonumber(ARGV[13]) then
      redis.call('XADD', events, '*', 'event', 'retries-exhausted', 'jobId', id, 'attemptsMade', made)
    end
    if options and options.points then
      rest().minutes().count_ended(B, failed and 0 or 1, failed and 1 or 0)
    end
  end
elseif ARGV[6] ~= '0' then
  want, ended, delayed = rest().end_all(B, reply)
end

-- Starts the next jobs.
local started = 0
if want == '1' and usual_start then
  if due_id then
    redis.call('ZREM', B .. 'delayed', due_id)
    redis.call('LPUSH', B .. 'wait', due_id)
    redis.call('XADD', events, '*', 'event', 'waiting', 'jobId', due_id, 'prev', 'delayed')
    redis.call('HSET', B .. due_id, 'delay', '0')
    changed = true
  end
  if changed then
    -- The end may have let another job run, and so has its time.
    tail = redis.call('LINDEX', B .. 'wait', '-1')
    local first = tail or redis.call('ZRANGE', B .. 'prioritized', '0', '0')[1]
    if first ~= next_id or not hash then
      next_id, hash = first, first and redis.pcall('HGETALL', B .. first)
    end
  end
  if not next_id then
    redis.call('DEL', B .. 'pc')
    if changed then
      due = redis.call('ZRANGE', B .. 'delayed', '0', '0', 'WITHSCORES')[2]
      due = due and due / 4096
    end
    reply[1], reply[2] = due and 'at' or 'empty', due and math.floor(due) or 0
  elseif #hash == 0 then
    -- No job: the next call drops the id.
    reply[1] = 'more'
  else
    if tail then
      redis.call('RPOPLPUSH', B .. 'wait', B .. 'active')
    else
      redis.call('LPUSH', B .. 'active', next_id)
      redis.call('ZREM', B .. 'prioritized', next_id)
    end
    local starts, counts = nil, limit
    for f = 1, #hash, 2 do
      if hash[f] == 'ats' then
        starts = hash[f + 1]
      elseif hash[f] == 'defa' then
        counts = nil
      end
    end
    start_job(B, next_id, starts)
    if counts then
      redis.call('INCR', B .. 'limiter')
    end
    -- What is no set wakes nobody, and the job has started.
    redis.pcall('ZADD', B .. 'marker', '0', '0')
    reply[1], started = 'more', 1
    local n = #reply
    reply[n + 1], reply[n + 2] = next_id, hash
  end
elseif want ~= '0' then
  started = rest().taking().start_jobs(B, want, limits, reply)
end

if started == 0 then
  if delayed or limits and limits.was_full then
    rest().taking().wake_others(B, limits, delayed)
  end
  if ended > 0 and (reply[1] == 'idle' or reply[1] == 'empty')
    and redis.call('LLEN', B .. 'wait') == 0
    and redis.call('LLEN', B .. 'active') == 0
    and redis.call('ZCARD', B .. 'prioritized') == 0 then
    emit(B, 'drained')
  end
end
return reply
