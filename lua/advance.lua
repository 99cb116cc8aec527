--[[
  advance: active -> completed | failed | waiting | prioritized | delayed | waiting-children,
           then waiting | prioritized -> active
  Ends 0 to N attempts and starts 0 to M next jobs, in one step. A refused result changes nothing for its
  job and does not affect the others. One job less is started for it, because its own job may still need
  the worker's permit.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 now (ms)   2 how many jobs to start   3 lock token for them   4 lock duration (ms)
          5 worker name (empty: none)   6 rate limit: jobs (empty: none)
          7 rate limit: window (ms; empty: the limit applies, but these starts are not counted)
          8 data points of the per-minute metrics (0: off)   9 how many bytes of job hashes to start at most
          10 again: 1 when these results may have been stored by an earlier call, else 0
          11 number of results, then per result:
            id   lock token   ats and stc as of the activation
            verb: complete, fail, retry, retry_next, backoff, park, release, children, return, skip or postpone
            (retry_next: as retry, but before the jobs that wait; return, skip, postpone: as release,
            complete and park, but the start is not counted)
            return value (JSON) or failure reason (text)   stack traces (JSON, empty: leave)
            keep count (complete, skip, fail) or delay (ms; backoff, park, postpone)
            keep age (ms, -1: any)   keep limit   attempts option
  Returns {codes, jobs, next, value, dangling, backlog}
          codes: per result 0 stored, 1 stored by an earlier execution of the call, 2 unknown whether it was
          stored, 3 to be sent again, because very many jobs are active; or a refusal: JOB_MISSING,
          LOCK_MISSING, LOCK_LOST, WRONG_STATE, PENDING_DEPENDENCIES, FAILED_CHILDREN
          jobs: id, hash as it was before the start, id, hash, ...
          next: more | limited (value: ms to wait) | blocked | at (value: ms of the next due job)
          | empty | idle (no job was asked for)
          dangling: ids without a job that were dropped
          backlog: retention left to do, each {set, count, age, limit}
  Emits   completed, failed, retries-exhausted, waiting, delayed, waiting-children, active,
          drained; added, waiting or delayed of a deduplicated add that waited
  Uses    codes, events, gate, marker, place, job, parent, child, dedup, dedup_end, retention,
          metrics, promote, finish, take, rate
]]
local B = KEYS[1]
local now, want, token, lock_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3], ARGV[4]
local worker_name = ARGV[5]
local limit_max, limit_window = tonumber(ARGV[6]), tonumber(ARGV[7])
local points, budget = tonumber(ARGV[8]), tonumber(ARGV[9])
local results = {
  first = 12,
  total = tonumber(ARGV[11]),
  again = ARGV[10] == '1',
  now = now,
  stamp = ARGV[1],
  points = points,
}

local settings, active = check_queue(B)
-- The global limit's number counts before the worker's, the worker's window before the global one.
-- Without any window nothing can be counted, because the count would never expire.
local max = settings.max or limit_max
local window = limit_window or (settings.max and settings.duration)
local counter = want > 0 and max and redis.call('GET', B .. 'limiter')
if results.total > 0 then
  redis.call('ZCARD', B .. 'completed')
  redis.call('ZCARD', B .. 'failed')
  redis.call('SCARD', B .. 'stalled')
  if points > 0 then
    for _, kind in ipairs({ 'completed', 'failed' }) do
      redis.call('HLEN', B .. 'metrics:' .. kind)
      redis.call('LLEN', B .. 'metrics:' .. kind .. ':data')
    end
  end
end

local was_full = settings.concurrency and is_blocked(B, settings)
local codes, ended, delayed, backlog = {}, 0, false, {}
if results.total > 0 then
  results.most = math.max(1, math.floor(SEARCHED_MAX / (active + 1)))
  codes, ended, delayed, backlog = finish_jobs(B, settings, results)
  for _, code in ipairs(codes) do
    if (code < 0 or code == TRY_AGAIN) and want > 0 then
      want = want - 1
    end
  end
end

local jobs, dangling, next_step, value = {}, 0, 'idle', 0
if want > 0 then
  local promoted = promote_due(B, settings, now)
  local allowed, wait = want, 0
  if max then
    allowed, wait = within_rate(B, max, counter)
  end
  if settings.concurrency then
    allowed = math.min(allowed, math.ceil(settings.concurrency - redis.call('LLEN', B .. 'active')))
  end
  if wait > 0 then
    next_step, value = 'limited', wait
  elseif settings.paused or allowed <= 0 then
    next_step = 'blocked'
  else
    local taken = pop_ready(B, math.min(want, allowed), budget)
    local ids = taken.ids
    dangling = taken.dangling
    if #ids > 0 then
      local counted = activate(B, taken, { token = token, duration = lock_ms, worker = worker_name }, ARGV[1])
      if max and window then
        count_starts(B, counted, window)
      end
      for i = 1, #ids do
        jobs[2 * i - 1], jobs[2 * i] = ids[i], taken.hashes[i]
      end
    elseif redis.call('ZCARD', B .. 'prioritized') == 0 then
      redis.call('DEL', B .. 'pc')
    end
    if taken.full or #ids >= math.min(want, allowed) then
      next_step = 'more'
    else
      local due = next_due(B)
      if due then
        next_step, value = 'at', math.floor(due)
      else
        next_step = 'empty'
      end
    end
  end
  if promoted == PROMOTE_MAX and next_step ~= 'blocked' and next_step ~= 'limited' then
    next_step = 'more'
  end
end

if delayed and #jobs == 0 then
  announce_due(B)
end
-- A full queue may have room again, and idle workers were not woken while it was full.
if was_full and #jobs == 0 and has_ready(B) then
  wake_unless_blocked(B, settings)
end
if ended > 0 and #jobs == 0 and (next_step == 'idle' or next_step == 'empty')
  and redis.call('LLEN', B .. 'wait') == 0
  and redis.call('LLEN', B .. 'active') == 0
  and redis.call('ZCARD', B .. 'prioritized') == 0 then
  emit(B, 'drained')
end
return { codes, jobs, next_step, value, dangling, backlog }
