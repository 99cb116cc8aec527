--[[
  enqueue_one: new -> waiting | prioritized | delayed | waiting-children
  Stores and queues one job without parent and deduplication: as `enqueue` does, at half of its cost.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 id (empty: generate)   2 name   3 data (JSON)   4 opts (JSON)   5 timestamp (ms)   6 delay (ms)
          7 priority   8 place (wait, next, prioritized, delayed or children)
  Returns the id that was generated, a number; or for an id of the caller's 0 added, 1 an existing id, nothing stored
  Emits   added, then waiting, delayed or waiting-children; duplicated for an existing id
  Uses    events; rarely marker, place
]]
local B, id, place, events = KEYS[1], ARGV[1], ARGV[8], KEYS[1] .. 'events'
local generated = id == ''

-- First a look at each key that the call will write: one of the wrong type fails it here.
local meta = redis.call('HMGET', B .. 'meta', 'paused', 'concurrency', 'opts.maxLenEvents')
local cap, has_event_cap = event_cap(meta[3])
local most = meta[2] and tonumber(meta[2])
local blocked = meta[1] or most and redis.call('LLEN', B .. 'active') >= most
redis.call('XLEN', events)
if place == 'wait' or place == 'next' then
  redis.call('LLEN', B .. 'wait')
else
  redis.call('ZCARD', B .. (place == 'children' and 'waiting-children' or place))
end
redis.call('ZCARD', B .. 'marker')
local exists = not generated and redis.call('EXISTS', B .. id) == 1

-- The first write must be one that the server refuses when its memory is full.
local number = redis.call('INCR', B .. 'id')
if not has_event_cap then
  set_event_cap(B)
end
if exists then
  redis.call('XADD', events, 'MAXLEN', '~', cap, '*', 'event', 'duplicated', 'jobId', id)
  return 1
elseif generated then
  id = string.format('%.0f', number)
end
redis.call('HSET', B .. id, 'name', ARGV[2], 'data', ARGV[3], 'opts', ARGV[4], 'timestamp', ARGV[5],
  'delay', ARGV[6], 'priority', ARGV[7])
redis.call('XADD', events, 'MAXLEN', '~', cap, '*', 'event', 'added', 'jobId', id, 'name', ARGV[2])

if place == 'delayed' then
  local due = tonumber(ARGV[5]) + tonumber(ARGV[6])
  places().place_delayed(B, id, due)
  places().announce_due(B)
  emit(B, 'delayed', 'jobId', id, 'delay', due)
elseif place == 'children' then
  redis.call('ZADD', B .. 'waiting-children', ARGV[5], id)
  emit(B, 'waiting-children', 'jobId', id)
else
  if place == 'wait' then
    redis.call('LPUSH', B .. 'wait', id)
  elseif place == 'next' then
    redis.call('RPUSH', B .. 'wait', id)
  else
    places().place_prioritized(B, id, tonumber(ARGV[7]))
  end
  if not blocked then
    redis.call('ZADD', B .. 'marker', '0', '0')
  end
  redis.call('XADD', events, '*', 'event', 'waiting', 'jobId', id)
end
return generated and number or 0
