--[[
  next_iteration: new -> waiting | prioritized | delayed
  Adds the iteration that follows one just activated. Only the activation of the scheduler's current
  iteration adds one, so that a repeated call, a retry or a second worker adds no other.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 scheduler id   2 id of the activated job   3 now (ms)
          4 occurrence of the pattern after now (ms, empty: none)
          5 occurrence of the pattern after the activated one, even if past (ms, empty: none)
          6 interval (ms, empty: none) and   7 offset (ms), where the definition has none
          8 end of an interval's runs (ms, empty: none)
          9 opts of the iteration (JSON, without jobId, delay and prevMillis; empty: add none)
          10 priority   11 lifo: 1 or 0   12 deduplication id (empty: none)
  Returns {outcome, id, running}
          outcome: made (id) | none: not the current iteration of its scheduler | ended: there is no
          further occurrence, or none was to be added | duplicate: a job with that id (id) exists
          | unknown: there is no such scheduler, or its iterations have other ids
          | repeatable: of BullMQ 4, see next_repeatable
          running: an earlier iteration that still runs, if the definition forbids overlaps
  Emits   added, then waiting or delayed; duplicated
  Uses    events, gate, marker, place, scheduler
]]
local B, scheduler, activated, now = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local RUNNING_MAX = 5000
local definition = B .. 'repeat:' .. scheduler

check_iteration_keys(B)
local last = tonumber(redis.call('ZSCORE', B .. 'repeat', scheduler))
if not last then
  return { 'unknown', '', '' }
end
local fields = redis.call('HMGET', definition, 'name', 'data', 'ic', 'every', 'offset', 'catchUp', 'overlap')
local data, count = fields[2], fields[3]

-- Returns an earlier iteration that still runs, if the activated one must not overlap it, or ''.
local function running()
  local prefix = 'repeat:' .. scheduler .. ':'
  local own = tonumber(string.sub(activated, #prefix + 1))
  if fields[7] ~= 'skip' or not own then
    return ''
  end
  for _, id in ipairs(redis.call('LRANGE', B .. 'active', 0, RUNNING_MAX - 1)) do
    if string.sub(id, 1, #prefix) == prefix then
      local other = string.match(string.sub(id, #prefix + 1), '^%d+$')
      if other and tonumber(other) < own then
        return id
      end
    end
  end
  return ''
end

if not count and is_repeatable_key(scheduler) then
  return { 'repeatable', '', '' }
end
if activated ~= iteration_id(scheduler, last) then
  local occurrence = string.match(activated, '^%d+$', #iteration_id(scheduler, 0))
  local own = occurrence and activated == iteration_id(scheduler, tonumber(occurrence))
  return { own and 'none' or 'unknown', '', running() }
end
if ARGV[9] == '' then
  return { 'ended', '', running() }
end
local every = tonumber(fields[4] or ARGV[6])
local occurrence, all, ends = nil, fields[6] == 'all', tonumber(ARGV[8])
if every and every <= 0 then
  every = nil
end
if every then
  local interval = { every = every, offset = tonumber(fields[5] or ARGV[7]), all = all }
  occurrence = math.floor(following_occurrence(interval, now, last))
  -- The end bounds when iterations are added, so the last run may be later; a missed run that is made up
  -- for counts by its own time.
  if ends and (all and occurrence or now) > ends then
    occurrence = nil
  end
else
  occurrence = tonumber(all and ARGV[5] or ARGV[4])
end
if not occurrence then
  return { 'ended', '', running() }
end
local id = iteration_id(scheduler, occurrence)
if redis.call('EXISTS', B .. id) == 1 then
  emit(B, 'duplicated', 'jobId', id)
  return { 'duplicate', id, running() }
end

local name = fields[1] or redis.call('HGET', B .. activated, 'name') or scheduler
-- The first write: a count that is no number fails it.
redis.call('HINCRBY', definition, 'ic', 1)
-- A repeatable of version 5 has its data in its jobs only.
local inherited = not count and not data and redis.call('HGET', B .. activated, 'data')
if inherited and inherited ~= '{}' then
  data = inherited
  redis.call('HSET', definition, 'data', data)
end
redis.call('ZADD', B .. 'repeat', whole(occurrence), scheduler)
add_iteration(B, scheduler, {
  occurrence = occurrence,
  name = name,
  data = data or '{}',
  options = read_options(9),
  pattern = not every,
}, now)
return { 'made', id, running() }
