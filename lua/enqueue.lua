--[[
  enqueue: new -> waiting | prioritized | delayed | waiting-children
  Stores 1 to N jobs and queues each where its options say. A job that is refused, or whose id
  exists already, leaves the others of the batch alone.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 repeat: 1 when this very call may have been executed before, else 0
          2 number of jobs, then per job:
            id (empty: generate)   name   data (JSON)   opts (JSON)   timestamp (ms)   delay (ms)
            priority   place (wait, next, prioritized, delayed or children)
            parent key (empty: none)   parent link (JSON)
  Returns per job two elements: code, id. Codes: 0 added, 1 an existing id (nothing stored),
          2 added by the earlier execution of this call; or a refusal: PARENT_MISSING,
          PARENT_CONFLICT
  Emits   added, then waiting, delayed or waiting-children; duplicated for an existing id
  Uses    codes, events, gate, marker, place, job, parent
]]
local B = KEYS[1]
local again = ARGV[1] == '1'
local total = tonumber(ARGV[2])
local STRIDE = 10
local ADDED, DUPLICATE, ALREADY = 0, 1, 2

local settings = read_settings(B)
local closed = gate_closed(B, settings)

-- Read one value of each key that is written below: a key of the wrong type fails here, before
-- the first write.
redis.call('XLEN', B .. 'events')
redis.call('LLEN', B .. 'wait')
redis.call('ZCARD', B .. 'marker')
redis.call('GET', B .. 'id')

-- Refuse first: decide what becomes of each job before anything is written.
local code, parent_of, counted = {}, {}, 0
local new_ids = {}
for i = 1, total do
  local at = 2 + (i - 1) * STRIDE
  local id, parent_key = ARGV[at + 1], ARGV[at + 9]
  local has_parent = parent_key ~= ''
  if has_parent and redis.call('EXISTS', parent_key) == 0 and not new_ids[parent_key] then
    code[i] = PARENT_MISSING
  else
    counted = counted + 1
    code[i] = ADDED
    if id ~= '' then
      local job_key = B .. id
      if new_ids[job_key] then
        code[i] = DUPLICATE
      elseif redis.call('EXISTS', job_key) == 1 then
        local known = redis.call('HMGET', job_key, 'parentKey', 'timestamp', 'name', 'data')
        local old = known[1]
        if again and known[2] == ARGV[at + 5] and known[3] == ARGV[at + 2] and known[4] == ARGV[at + 3] then
          code[i] = ALREADY
        elseif has_parent and old and old ~= '' and old ~= parent_key and redis.call('EXISTS', old) == 1 then
          code[i] = PARENT_CONFLICT
        else
          code[i] = DUPLICATE
        end
      else
        new_ids[job_key] = true
      end
    end
    if has_parent then
      redis.call('SCARD', parent_key .. ':dependencies')
      parent_of[i] = parent_key
    end
  end
  local place = ARGV[at + 8]
  if place == 'delayed' then
    redis.call('ZCARD', B .. 'delayed')
  elseif place == 'prioritized' then
    redis.call('ZCARD', B .. 'prioritized')
  end
end

local reply = {}
if counted == 0 then
  for i = 1, total do
    reply[2 * i - 1], reply[2 * i] = code[i], ''
  end
  return reply
end

-- An existing job joins the parent that the new add names.
local function attach(job_key, id, parent_key, parent_link, now)
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

local counter = redis.call('INCRBY', B .. 'id', counted) - counted
local cap = event_cap(B, settings)
local fifo, woken, announced = {}, false, false

for i = 1, total do
  local at = 2 + (i - 1) * STRIDE
  local id = ARGV[at + 1]
  if code[i] ~= PARENT_MISSING then
    counter = counter + 1
    if id == '' then
      id = tostring(counter)
    end
  end
  local job_key = B .. id
  local parent_key, parent_link = parent_of[i], ARGV[at + 10]
  if code[i] == ADDED then
    local name, data, opts, timestamp = ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
    local delay, priority, place = ARGV[at + 6], ARGV[at + 7], ARGV[at + 8]
    if parent_key then
      redis.call('HSET', job_key, 'name', name, 'data', data, 'opts', opts, 'timestamp', timestamp,
        'delay', delay, 'priority', priority, 'parentKey', parent_key, 'parent', parent_link)
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
  elseif code[i] == DUPLICATE then
    if parent_key then
      attach(job_key, id, parent_key, parent_link, tonumber(ARGV[at + 5]))
    end
    emit(B, 'duplicated', 'jobId', id)
  end
  reply[2 * i - 1], reply[2 * i] = code[i], id
end

-- Newest first: the first job added stays nearest to the end that is fetched from.
if #fifo > 0 then
  redis.call('LPUSH', B .. 'wait', unpack(fifo))
end
if woken and not closed then
  wake(B)
end
if announced then
  announce_due(B)
end
trim_events(B, cap)
return reply
