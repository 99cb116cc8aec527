--[[
  enqueue: new -> waiting | prioritized | delayed | waiting-children
  Stores 1 to N jobs, one after the other, and queues each where its options say. A job that is
  refused, exists already or is deduplicated does not affect the others.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 after: when this very call may have been executed before, the id of the event up to which the
            caller has read the stream; else empty
          2 number of jobs, then per job:
            id (empty: generate)   name   data (JSON)   opts (JSON)   timestamp (ms)   delay (ms)
            priority   place (wait, next, prioritized, delayed or children)
            extra: empty, or one of
              parent, then: parent key   parent link (JSON)
              dedup, then: <modes>:<ttl in ms>:<deduplication id>, with the modes e (extend),
              r (replace), s (reschedule), k (keep last if active)
          and, with `after`, per job that the events up to it report:
            id   added, replaced or owner   the other id   deduplication id
  Returns {} when more events came after `after` than one call reads: nothing has changed. Else per job
          its code and id, and with the codes 3 and 4 another id:
          0 added, now or by the earlier execution: the job
          1 an existing id, nothing stored: the job
          2 deduplicated, nothing stored: the owner of the deduplication id
          3 added in place of a delayed job: the job, the job deleted
          4 kept as the last add to run after an active job: that job, the id it will have
          or a refusal: PARENT_MISSING, PARENT_CONFLICT
  Emits   added, then waiting, delayed or waiting-children; duplicated for an existing id;
          deduplicated, then delayed for an owner that is rescheduled; removed and deduplicated
          before the added of a job that replaces another; waiting or delayed, for a parent that is
          released
  Uses    codes, events, gate, marker, place, job, parent, dedup, dedup_add, replay
]]
local B = KEYS[1]
local after = ARGV[1]
local again = after ~= ''
local total = tonumber(ARGV[2])
local ADDED, DUPLICATE = 0, 1

local settings = read_settings(B)
local blocked = is_blocked(B, settings)

-- Read one value of each key that is written below: a key of the wrong type fails here, before
-- the first write.
redis.call('XLEN', B .. 'events')
redis.call('LLEN', B .. 'wait')
redis.call('ZCARD', B .. 'marker')
local starts, dedup_of, dedups = {}, {}, nil
local at = 2
for i = 1, total do
  starts[i] = at
  local id, place, extra = ARGV[at + 1], ARGV[at + 8], ARGV[at + 9]
  if place == 'delayed' then
    redis.call('ZCARD', B .. 'delayed')
  elseif place == 'prioritized' then
    redis.call('ZCARD', B .. 'prioritized')
  elseif place == 'children' then
    redis.call('ZCARD', B .. 'waiting-children')
  end
  if id ~= '' and (again or extra == 'parent') then
    redis.call('HLEN', B .. id)
  end
  at = at + 9
  if extra == 'parent' then
    redis.call('SCARD', ARGV[at + 1] .. ':dependencies')
    redis.call('HLEN', ARGV[at + 1] .. ':processed')
    at = at + 2
  elseif extra == 'dedup' then
    dedups = dedups or deduplication()
    dedup_of[i] = dedups.read(ARGV[at + 1])
    dedups.check(B, dedup_of[i])
    at = at + 1
  end
end
if dedups then
  dedups.check_states(B)
end
local history = {}
if again then
  for i = at + 1, #ARGV, 4 do
    local kind, other = ARGV[i + 1], ARGV[i + 2]
    history[ARGV[i]] = kind == 'added' and {} or { [kind] = other, dedup = ARGV[i + 3] }
  end
  if not read_history(B, after, history) then
    return {}
  end
end

-- Returns the number of the next job. The first one is taken before any other write, so that an unusable
-- counter fails the call; how many more were used is written at the end.
local counter, more = nil, 0
local function next_number()
  if counter then
    more = more + 1
    return counter + more
  end
  counter = redis.call('INCR', B .. 'id')
  return counter
end

-- Finds what an earlier call did about a job with an id of its own: code, id and another id; nothing
-- when the job is still to be added.
local function find_earlier(at, id, parent_key, dedup)
  local job_key = B .. id
  local exists = redis.call('EXISTS', job_key) == 1
  local past = history[id]
  if past and dedup and (not past.dedup or past.dedup == dedup.id) then
    if past.replaced then
      return REPLACED, id, past.replaced
    elseif not past.owner then
      return ADDED, id
    elseif dedup.keep_last and (exists or redis.call('HGET', B .. 'dn:' .. dedup.id, 'jid') == id) then
      return KEPT_LAST, past.owner, id
    end
    return DEDUPLICATED, past.owner
  end
  if not exists then
    -- The events report that it was added: it has been removed since, and must not run again.
    if past and not dedup and not past.dedup then
      return ADDED, id
    end
    return nil
  end
  if again or parent_key then
    local known = redis.call('HMGET', job_key, 'parentKey', 'timestamp', 'name', 'data')
    local old = known[1]
    if again and known[2] == ARGV[at + 5] and known[3] == ARGV[at + 2] and known[4] == ARGV[at + 3] then
      return ADDED, id
    elseif parent_key and old and old ~= '' and old ~= parent_key and redis.call('EXISTS', old) == 1 then
      return PARENT_CONFLICT, id
    end
  end
  return DUPLICATE, id
end

-- An existing job joins the parent that the new add names.
local function attach(id, parent_key, parent_link, now)
  local job_key = B .. id
  local value = redis.call('ZSCORE', B .. 'completed', id) and redis.call('HGET', job_key, 'returnvalue')
  if value then
    redis.call('HSET', parent_key .. ':processed', job_key, value)
    local parent = find_parent(parent_link, parent_key)
    if parent then
      release_if_free(parent, now)
    end
  else
    redis.call('SADD', parent_key .. ':dependencies', job_key)
  end
  redis.call('HSET', job_key, 'parentKey', parent_key, 'parent', parent_link)
end

local fifo, woken, announced = {}, false, false

-- Stores a job and queues it.
local function store(at, id, parent_key, dedup)
  local job_key = B .. id
  local name, data, opts, timestamp = ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
  local delay, priority, place = ARGV[at + 6], ARGV[at + 7], ARGV[at + 8]
  if parent_key then
    redis.call('HSET', job_key, 'name', name, 'data', data, 'opts', opts, 'timestamp', timestamp,
      'delay', delay, 'priority', priority, 'parentKey', parent_key, 'parent', ARGV[at + 11])
  elseif dedup then
    redis.call('HSET', job_key, 'name', name, 'data', data, 'opts', opts, 'timestamp', timestamp,
      'delay', delay, 'priority', priority, 'deid', dedup.id)
  else
    redis.call('HSET', job_key, 'name', name, 'data', data, 'opts', opts, 'timestamp', timestamp,
      'delay', delay, 'priority', priority)
  end
  emit(B, 'added', 'jobId', id, 'name', name)
  if place == 'delayed' then
    local due = tonumber(timestamp) + tonumber(delay)
    place_delayed(B, id, due)
    announced = true
    emit(B, 'delayed', 'jobId', id, 'delay', due)
  elseif place == 'children' then
    redis.call('ZADD', B .. 'waiting-children', timestamp, id)
    emit(B, 'waiting-children', 'jobId', id)
  else
    if place == 'wait' then
      fifo[#fifo + 1] = id
    elseif place == 'next' then
      redis.call('RPUSH', B .. 'wait', id)
    else
      place_prioritized(B, id, tonumber(priority))
    end
    woken = true
    emit(B, 'waiting', 'jobId', id)
  end
  if parent_key then
    redis.call('SADD', parent_key .. ':dependencies', job_key)
  end
end

-- Adds one job. Returns its code, id and another id.
local function add(at, dedup)
  local id = ARGV[at + 1]
  local parent_key = ARGV[at + 9] == 'parent' and ARGV[at + 10]
  if parent_key and redis.call('EXISTS', parent_key) == 0 then
    return PARENT_MISSING, id
  end
  local number = next_number()
  if id == '' then
    id = tostring(number)
  else
    local code, known, other = find_earlier(at, id, parent_key, dedup)
    if code then
      if code == DUPLICATE then
        if parent_key then
          attach(id, parent_key, ARGV[at + 11], tonumber(ARGV[at + 5]))
        end
        emit(B, 'duplicated', 'jobId', id)
      end
      return code, known, other
    end
  end
  local code, other
  if dedup then
    code, other = dedups.apply(B, dedup, { id = id, name = ARGV[at + 2], data = ARGV[at + 3], opts = ARGV[at + 4],
      timestamp = ARGV[at + 5], delay = ARGV[at + 6] })
    if code == KEPT_LAST then
      return KEPT_LAST, other, id
    elseif code == DEDUPLICATED then
      return DEDUPLICATED, other
    end
  end
  store(at, id, parent_key, dedup)
  return code or ADDED, id, other
end

local reply = {}
for i = 1, total do
  local code, id, other = add(starts[i], dedup_of[i])
  local n = #reply
  reply[n + 1], reply[n + 2] = code, id
  if code == REPLACED or code == KEPT_LAST then
    reply[n + 3] = other
  end
end
if not counter then
  return reply
end
if more > 0 then
  redis.call('INCRBY', B .. 'id', more)
end

-- Newest first: the first job added stays nearest to the end that is fetched from.
if #fifo > 0 then
  redis.call('LPUSH', B .. 'wait', unpack(fifo))
end
if woken and not blocked then
  wake(B)
end
if announced then
  announce_due(B)
end
apply_event_cap(B, settings)
return reply
