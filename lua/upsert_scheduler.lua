--[[
  upsert_scheduler: new -> waiting | prioritized | delayed
  Writes a scheduler's definition and adds its iteration. The pending iteration of an earlier definition
  is deleted.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 scheduler id   2 now (ms)   3 occurrence of the pattern (ms, empty: an interval)
          4 occurrence after that (ms, empty: none)   5 interval (ms, empty: a pattern)
          6 start (ms, empty: none)   7 offset (ms, 0: none)   8 make up for missed occurrences: 1 or 0
          9 name   10 data (JSON, empty: none)   11 opts of the iteration (JSON, without jobId,
          delay and prevMillis)   12 priority   13 lifo: 1 or 0   14 deduplication id (empty: none)
          15 after: when this very call may have been executed before, the id of the event up to which
          the caller has read the stream; else empty
          16 the first occurrence (ms) whose iteration was added, by the events up to that one (empty: none)
          then the definition's other fields and values
  Returns {iteration id, occurrence}, or a refusal: ITERATION_EXISTS, OCCURRENCES_TAKEN
          {} when more events came after `after` than one call reads: nothing has changed
          After an earlier execution: the iteration that it added, even if that has ended
  Emits   added, then waiting or delayed; nothing for the iteration that is deleted
  Uses    codes, events, gate, marker, place, job, parent, dedup, removal, lists, replay, scheduler
]]
local B, scheduler, now = KEYS[1], ARGV[1], tonumber(ARGV[2])
local occurrence, later, every = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local start, offset, all = tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8] == '1'
local after, definition = ARGV[15], B .. 'repeat:' .. scheduler
-- The new definition, except for its count of iterations and its offset.
local names, values = { 'name' }, { ARGV[9] }
if ARGV[10] ~= '' then
  names[2], values[2] = 'data', ARGV[10]
end
for i = 17, #ARGV, 2 do
  names[#names + 1], values[#values + 1] = ARGV[i], ARGV[i + 1]
end

check_iteration_keys(B)
redis.call('LLEN', B .. 'paused')
local last = tonumber(redis.call('ZSCORE', B .. 'repeat', scheduler))
local known = redis.call('HMGET', definition, 'every', 'ic', 'offset')

-- Whether the stored definition is the one that this call writes.
local function is_defined()
  if redis.call('HLEN', definition) ~= #names + 2 then
    return false
  end
  for i, value in ipairs(redis.call('HMGET', definition, unpack(names))) do
    if value ~= values[i] then
      return false
    end
  end
  return true
end

-- Finds the iteration that an earlier execution of this call added: the definition is this call's,
-- and an iteration was added since. A worker may have run it, and even removed it. Returns false when
-- the caller is to read more events first.
local function made_before()
  if not is_defined() then
    return nil
  end
  local history, first = read_history(B, after, {}), tonumber(ARGV[16])
  if not history then
    return false
  end
  for id in pairs(history) do
    local added = tonumber(string.match(id, '^%d+$', #iteration_id(scheduler, 0)))
    if added and id == iteration_id(scheduler, added) and (not first or added < first) then
      first = added
    end
  end
  return first
end
if last and after ~= '' then
  local first = made_before()
  if first == false then
    return {}
  elseif first then
    return { iteration_id(scheduler, first), whole(first) }
  end
end

-- Finds the pending iteration, and where it waits.
local pending, place, index
if last then
  pending = iteration_id(scheduler, last)
  if redis.call('EXISTS', B .. pending) == 1 then
    for _, set in ipairs({ 'delayed', 'prioritized' }) do
      place = place or redis.call('ZSCORE', B .. set, pending) and set
    end
    for _, list in ipairs({ 'wait', 'paused' }) do
      if not place then
        index = redis.call('LPOS', B .. list, pending)
        place = index and list
      end
    end
  end
end

local function taken(candidate)
  if place and candidate == last then
    return false
  end
  return redis.call('EXISTS', B .. iteration_id(scheduler, candidate)) == 1
end

if every then
  local interval = { every = every, offset = offset, start = start, all = all }
  local same = last and tonumber(known[1]) == every
  if place and same then
    occurrence = last
  else
    if same then
      occurrence = following_occurrence(interval, now, last)
    else
      occurrence = first_occurrence(interval, now)
    end
    if taken(occurrence) then
      occurrence = free_occurrence(B, scheduler, occurrence, every)
      if not occurrence then
        return OCCURRENCES_TAKEN
      end
    end
  end
elseif taken(occurrence) then
  -- The occurrence has had its iteration, and the one after it was pending: that one is added again.
  if not place or not later or taken(later) then
    return ITERATION_EXISTS
  end
  occurrence = later
end

if offset == 0 then
  if place and known[3] then
    offset = tonumber(known[3]) or 0
  elseif every then
    offset = occurrence % every
  end
end
if place then
  if place == 'wait' or place == 'paused' then
    remove_near(B .. place, 1, index, pending)
  else
    redis.call('ZREM', B .. place, pending)
  end
  remove_hard(B, pending)
end
redis.call('ZADD', B .. 'repeat', whole(occurrence), scheduler)
redis.call('DEL', definition)
redis.call('HSET', definition, 'ic', known[2] or 1, 'offset', whole(offset))
for i, name in ipairs(names) do
  redis.call('HSET', definition, name, values[i])
end
local id = add_iteration(B, scheduler, {
  occurrence = occurrence,
  name = ARGV[9],
  data = ARGV[10] ~= '' and ARGV[10] or '{}',
  options = read_options(11),
  pattern = not every,
}, now)
return { id, whole(occurrence) }
