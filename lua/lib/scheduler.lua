-- Job schedulers: occurrences, iterations and what became of them (docs/protocol.md#scheduler-keys).

-- How many further occurrences of an interval are tried to find one whose id is free.
local OCCURRENCE_TRIES = 32
-- Longer lists are not searched for an iteration: it is taken to be in them.
local SEARCH_MAX = 1000

local function whole(number)
  return string.format('%.0f', number)
end

local function iteration_id(scheduler, occurrence)
  return 'repeat:' .. scheduler .. ':' .. whole(occurrence)
end

-- Returns whether a member of the `repeat` set has the form that BullMQ 4 makes of a repeatable job's name,
-- id, end, zone and pattern. If its definition has a counter, it is a scheduler nevertheless.
local function is_repeatable_key(key)
  return string.match(key, ':.*:.*:.*:') ~= nil
end

-- The occurrence of an interval's first iteration. interval: every and offset (ms), start (ms, or nil).
local function first_occurrence(interval, now)
  local every, offset, start = interval.every, interval.offset, interval.start
  if start then
    return math.max(start, now)
  end
  if offset == 0 then
    return now
  end
  local occurrence = now - now % every + offset
  return occurrence > now and occurrence or occurrence + every
end

-- The occurrence of an interval after `last`. Missed occurrences are skipped, unless the interval makes up
-- for all of them.
local function following_occurrence(interval, now, last)
  local every, offset = interval.every, interval.offset
  if interval.all or last + every >= now then
    return last + every
  end
  local occurrence = now - now % every + offset
  return occurrence > now and occurrence or occurrence + every
end

-- The first occurrence from `occurrence` on whose id is free, or nil.
local function free_occurrence(B, scheduler, occurrence, every)
  for _ = 0, OCCURRENCE_TRIES do
    if redis.call('EXISTS', B .. iteration_id(scheduler, occurrence)) == 0 then
      return occurrence
    end
    occurrence = occurrence + every
  end
  return nil
end

-- Checks the keys that adding an iteration writes, before the first write.
local function check_iteration_keys(B)
  check_queue(B)
  -- A counter that is no number fails here too.
  if redis.call('GET', B .. 'id') then
    redis.call('INCRBY', B .. 'id', 0)
  end
end

-- Reads how an iteration is to be added, which ARGV has from `at` on: opts (without jobId, delay and
-- prevMillis), priority, lifo and deduplication id (empty: none).
local function read_options(at)
  return { opts = ARGV[at], priority = tonumber(ARGV[at + 1]), lifo = ARGV[at + 2] == '1', dedup = ARGV[at + 3] }
end

-- Stores and queues an iteration. job: occurrence, name, data, options (of `read_options`), pattern (whether
-- it follows one), and of a repeatable job its id and when it is due.
local function add_iteration(B, scheduler, job, now)
  local occurrence, options = job.occurrence, job.options
  local id, due = job.id or iteration_id(scheduler, occurrence), job.due or occurrence
  local delay = math.max(due - now, 0)
  local own = '{"jobId":' .. cjson.encode(id) .. ',"delay":' .. whole(delay) .. ','
  if job.pattern then
    own = own .. '"prevMillis":' .. whole(occurrence) .. ','
  end
  redis.call('INCR', B .. 'id')
  redis.call('HSET', B .. id, 'name', job.name, 'data', job.data, 'opts', own .. string.sub(options.opts, 2),
    'timestamp', whole(now), 'delay', whole(delay), 'priority', whole(options.priority), 'rjk', scheduler)
  if options.dedup ~= '' then
    redis.call('HSET', B .. id, 'deid', options.dedup)
  end
  local settings = read_settings(B)
  emit(B, 'added', 'jobId', id, 'name', job.name)
  if delay > 0 then
    place_delayed(B, id, due)
    emit(B, 'delayed', 'jobId', id, 'delay', whole(due))
    announce_due(B)
  else
    place_ready(B, id, options.priority, options.lifo and 'RPUSH' or 'LPUSH')
    wake_unless_blocked(B, settings)
    emit(B, 'waiting', 'jobId', id)
  end
  apply_event_cap(B, settings)
  return id
end

-- The lists that have been read, as sets, or false where they are too long: many iterations may be looked
-- for in them.
local lists_read = {}

local function listed(B, list, id)
  local members = lists_read[list]
  if members == nil then
    members = redis.call('LLEN', B .. list) <= SEARCH_MAX and {}
    for _, member in ipairs(members and redis.call('LRANGE', B .. list, 0, -1) or {}) do
      members[member] = true
    end
    lists_read[list] = members
  end
  return not members or members[id] == true
end

-- What became of an iteration: live, finished, gone (no hash) or stranded (a hash, in no state).
local function iteration_state(B, id)
  if redis.call('EXISTS', B .. id) == 0 then
    return 'gone'
  end
  if redis.call('EXISTS', B .. id .. ':lock') == 1 then
    return 'live'
  end
  for _, set in ipairs({ 'delayed', 'prioritized', 'waiting-children' }) do
    if redis.call('ZSCORE', B .. set, id) then
      return 'live'
    end
  end
  for _, set in ipairs({ 'completed', 'failed' }) do
    if redis.call('ZSCORE', B .. set, id) then
      return 'finished'
    end
  end
  for _, list in ipairs({ 'active', 'wait', 'paused' }) do
    if listed(B, list, id) then
      return 'live'
    end
  end
  return 'stranded'
end
