--[[
  advance: active -> completed | failed | waiting | prioritized | delayed | waiting-children,
           then waiting | prioritized -> active
  Ends 0 to N attempts and starts 0 to M next jobs, in one step. A refused result changes nothing for its
  job and does not affect the others. One job less is started for it, because its own job may still need
  the worker's permit.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 now (ms)   2 how many jobs to start   3 lock token for them   4 lock duration (ms)
          5 worker name (empty: none)
          6 rate limit (empty: none): jobs, then ':<window in ms>' if these starts are counted
          7 data points of the per-minute metrics (0: off)
          8 again: 1 when these results may have been stored by an earlier call, else 0
          9 number of results, then per result:
            verb: complete, fail, retry, retry_next, backoff, park, release, children, return, skip or postpone
            (retry_next: as retry, but before the jobs that wait; return, skip, postpone: as release,
            complete and park, but the start is not counted)
            id   lock token   return value (JSON) or failure reason (text)
            what to keep of the set (complete, fail, skip): empty for all, 0 for not even this job, or
            <count>:<age in ms>:<limit>, -1 for any; delay (ms) of backoff, park and postpone
            and, of all results unless each is a complete of this first call:
            ats and stc as of the activation   stack traces (JSON, empty: leave)   attempts option
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
  Uses    events, start; rarely codes, gate, marker, place, job, parent, child, dedup, dedup_end, unlinking, retention,
          retention_rules, metrics, promote, finish, take, rate
]]
local B = KEYS[1]
local events, want, total = B .. 'events', tonumber(ARGV[2]), tonumber(ARGV[9])
-- Where the results begin, and how many arguments each has.
local FIRST, width = 10, (#ARGV - 9) / total
-- How many entries of the list of active jobs one call skips to find those of its results.
local SEARCHED_MAX = 200000
-- How many finished jobs one call deletes for retention; `trim_finished` deletes the rest.
local PRUNE_MAX = 100

-- First a look at each key that the call will write: one of the wrong type fails it here.
local meta = redis.call('HMGET', B .. 'meta', 'paused', 'concurrency', 'max', 'duration', 'opts.maxLenEvents')
local cap, has_event_cap = event_cap(meta[5])
redis.call('XTRIM', events, 'MAXLEN', '~', cap)
-- The usual start: of one job, under no limit, with nothing due. Everything else is in `take`.
local usual_start, limits = want == 1 and not (meta[1] or meta[2] or meta[3]) and ARGV[6] == '', nil
local due, nothing_waits = nil, false
if want == 0 or usual_start then
  due = redis.call('ZRANGE', B .. 'delayed', '0', '0', 'WITHSCORES')[2]
  due = due and tonumber(due) / 4096
  nothing_waits = redis.call('LLEN', B .. 'wait') + redis.call('ZCARD', B .. 'prioritized') == 0
  usual_start = usual_start and (not due or due >= tonumber(ARGV[1]) + 1)
end
if meta[2] or want > 0 and not usual_start then
  limits = taking().read_limits(B, meta)
end

-- The jobs of the results. The usual end: of jobs that complete and have no children. Everything else is in `finish`.
local keys, locks, lock_keys, hashes, usual = {}, nil, {}, {}, true
if total > 0 then
  -- How many results may be looked for in that list.
  local most = total > 1 and math.floor(SEARCHED_MAX / (redis.call('LLEN', B .. 'active') + 1)) or 1
  local child_keys = {}
  for i = 1, total do
    local at = FIRST + width * (i - 1)
    local key = B .. ARGV[at + 1]
    keys[i], lock_keys[i] = key, key .. ':lock'
    child_keys[2 * i - 1], child_keys[2 * i] = key .. ':dependencies', key .. ':unsuccessful'
    hashes[i] = (i == 1 or i <= most) and redis.call('HMGET', key, 'ats', 'atm', 'parent', 'parentKey', 'deid')
    usual = usual and ARGV[at] == 'complete'
  end
  locks = redis.call('MGET', unpack(lock_keys))
  usual = redis.call('EXISTS', unpack(child_keys)) == 0 and usual
  redis.call('ZCARD', B .. 'completed')
  redis.call('ZCARD', B .. 'failed')
  if not usual then
    finish().check_keys(B, child_keys)
  end
  -- Who holds a lock is alive. This is the first write to a place of jobs, and takes nothing from any.
  local alive = {}
  for i = 1, total do
    local at = FIRST + width * (i - 1)
    if locks[i] == ARGV[at + 2] then
      alive[#alive + 1] = ARGV[at + 1]
    end
  end
  if #alive > 0 then
    redis.call('SREM', B .. 'stalled', unpack(alive))
  end
end

-- Ends the attempts.
local reply = { 'idle', 0, 0, 0 }
local batch, ended = nil, 0
if total > 0 then
  if not has_event_cap then
    set_event_cap(B)
  end
  -- Locks to delete; scores and ids to add; rules of retention to apply, and which results report their end after that.
  local freed_locks, completed, rules, late = {}, {}, {}, nil
  for i = 1, total do
    local at, code, hash = FIRST + width * (i - 1), 0, hashes[i]
    local id, value, keep = ARGV[at + 1], ARGV[at + 3], ARGV[at + 4]
    -- The job concerns no other, and completes under its lock.
    if usual and hash and hash[1] and not (hash[3] or hash[4] or hash[5]) and locks[i] == ARGV[at + 2]
      and redis.call('LREM', B .. 'active', '-1', id) == 1 then
      ended = ended + 1
      freed_locks[#freed_locks + 1] = lock_keys[i]
      if keep == '0' then
        retention().delete_job_keys(keys[i])
      else
        local added = #completed
        completed[added + 1], completed[added + 2] = ARGV[1], id
        -- Text where it can be: numbers cost the server a conversion.
        local made = hash[2] and (tonumber(hash[2]) or 0) + 1 or '1'
        redis.call('HSET', keys[i], 'returnvalue', value, 'finishedOn', ARGV[1], 'atm', made)
      end
      if keep == '' or keep == '0' then
        redis.call('XADD', events, '*', 'event', 'completed', 'jobId', id, 'returnvalue', value, 'prev', 'active')
      else
        rules['completed:' .. keep], late = true, late or {}
        late[#late + 1] = at
      end
    else
      batch = batch or {
        B = B, now = tonumber(ARGV[1]), keys = keys, locks = locks, hashes = hashes, ended = {},
        freed_locks = freed_locks, completed = completed, failed = {}, rules = rules,
      }
      code = finish().finish_one(batch, i, at)
      if (code < 0 or code == 3) and want > 0 then
        want, usual_start = want - 1, false
      end
    end
    reply[i + 4] = code
  end

  if #freed_locks > 0 then
    redis.call('DEL', unpack(freed_locks))
  end
  if #completed > 0 then
    redis.call('ZADD', B .. 'completed', unpack(completed))
  end
  if batch and #batch.failed > 0 then
    redis.call('ZADD', B .. 'failed', unpack(batch.failed))
  end
  if late or batch then
    -- Jobs that end may let others run.
    nothing_waits = false
    local backlog = next(rules) and retention().apply_rules(B, rules, PRUNE_MAX) or {}
    reply[4] = #backlog / 4
    for _, part in ipairs(backlog) do
      reply[#reply + 1] = part
    end
    for _, at in ipairs(late or {}) do
      emit(B, 'completed', 'jobId', ARGV[at + 1], 'returnvalue', ARGV[at + 3], 'prev', 'active')
    end
  end
  if batch then
    finish().emit_ended(batch)
    ended = ended + #batch.ended
  end
  if ARGV[7] ~= '0' then
    -- Numbers that others have spoiled must not fail results that are stored.
    pcall(minutes().count_ended, B, ended, batch)
  end
end

-- Starts the next jobs.
local started, delayed = 0, batch and batch.delayed
if usual_start and nothing_waits then
  redis.call('DEL', B .. 'pc')
  reply[1], reply[2] = due and 'at' or 'empty', due and math.floor(due) or 0
  want = 0
elseif usual_start and not delayed then
  local id = redis.call('RPOPLPUSH', B .. 'wait', B .. 'active')
  local hash = id and redis.pcall('HGETALL', B .. id)
  if id and (hash.err or #hash == 0) then
    -- No job: back to where it was.
    redis.call('LREM', B .. 'active', '1', id)
    redis.call('RPUSH', B .. 'wait', id)
  elseif id then
    local ats
    for f = 1, #hash, 2 do
      if hash[f] == 'ats' then
        ats = hash[f + 1]
        break
      end
    end
    start_job(B, id, ats)
    -- What is no set wakes nobody, and the job has started.
    redis.pcall('ZADD', B .. 'marker', '0', '0')
    reply[1], started = 'more', 1
    local n = #reply
    reply[n + 1], reply[n + 2] = id, hash
  end
end
if want > 0 and started == 0 then
  started = taking().start_jobs(B, want, limits or taking().read_limits(B, meta), reply)
end

if started == 0 then
  if delayed or limits and limits.was_full then
    taking().wake_others(B, limits, delayed)
  end
  if ended > 0 and (reply[1] == 'idle' or reply[1] == 'empty')
    and redis.call('LLEN', B .. 'wait') == 0
    and redis.call('LLEN', B .. 'active') == 0
    and redis.call('ZCARD', B .. 'prioritized') == 0 then
    emit(B, 'drained')
  end
end
return reply
