--[[
  repair_scheduler: new -> waiting | prioritized | delayed
  Adds an iteration for a scheduler whose current one will not run, unless another client has done so.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 scheduler id   2 occurrence (ms) and   3 state of the iteration, as they were found
          4 now (ms)   5 same: 1 to add the iteration of that occurrence again, 0 for a later one
          6 occurrence of the pattern after now (ms, empty: none)
          7 occurrence of the pattern after the one that was found, even if past (ms, empty: none)
          8 opts of the iteration (JSON, without jobId, delay and prevMillis)   9 priority
          10 lifo: 1 or 0   11 deduplication id (empty: none)
          12 after: the id of the newest event that the caller has read (empty: none), and   13 whether
          the events up to it report that the iteration has started: 1 or 0
  Returns {id}, or {} when nothing was to be done; BEHIND when more events are to be read first, to know
          whether the iteration has started
  Emits   added, then waiting or delayed
  Uses    events, gate, marker, place, job, replay, scheduler
]]
local B, scheduler, found, now = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])
local same = ARGV[5] == '1'
local definition = B .. 'repeat:' .. scheduler

check_iteration_keys(B)
local last = tonumber(redis.call('ZSCORE', B .. 'repeat', scheduler))
local fields = redis.call('HMGET', definition, 'name', 'data', 'ic', 'every', 'offset', 'catchUp', 'endDate')
local current = iteration_id(scheduler, found)
if last ~= found or not fields[1] or iteration_state(B, current) ~= ARGV[3] then
  return {}
end
local data = fields[2] or not fields[3] and redis.call('HGET', B .. current, 'data') or '{}'
local every, all = tonumber(fields[4]), fields[6] == 'all'
if every and every <= 0 then
  return {}
end

-- The newest events may report that the iteration has started: it was promoted, and removed when it
-- ended. The caller reads them once for many schedulers; the script reads what has come since.
if same and ARGV[3] == 'gone' then
  if ARGV[12] == '' then
    return redis.status_reply('BEHIND')
  elseif ARGV[13] == '1' then
    return {}
  end
  local rest = read_rest(B, ARGV[12])
  if not rest then
    return redis.status_reply('BEHIND')
  end
  for _, entry in ipairs(rest) do
    local f = entry[2]
    if f[2] == 'active' and f[4] == current then
      return {}
    end
  end
end

local occurrence = last
if not same then
  if every then
    local interval = { every = every, offset = tonumber(fields[5]) or 0, all = all }
    occurrence = free_occurrence(B, scheduler, math.floor(following_occurrence(interval, now, last)), every)
    local ends = tonumber(fields[7])
    if occurrence and ends and (all and occurrence or now) > ends then
      occurrence = nil
    end
  else
    occurrence = tonumber(all and ARGV[7] or ARGV[6])
    if occurrence and redis.call('EXISTS', B .. iteration_id(scheduler, occurrence)) == 1 then
      occurrence = nil
    end
  end
  if not occurrence then
    return {}
  end
end

if same then
  delete_job_keys(B .. current)
else
  redis.call('HINCRBY', definition, 'ic', 1)
end
if not fields[2] and data ~= '{}' then
  redis.call('HSET', definition, 'data', data)
end
redis.call('ZADD', B .. 'repeat', whole(occurrence), scheduler)
local id = add_iteration(B, scheduler, {
  occurrence = occurrence,
  name = fields[1],
  data = data,
  options = read_options(8),
  pattern = not every,
}, now)
return { id }
