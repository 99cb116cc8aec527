--[[
  enqueue: new -> waiting | prioritized | delayed | waiting-children
  Stores 1 to N jobs, one after the other, and queues each where its options say. A job that is
  refused, exists already or is deduplicated does not affect the others.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 number of jobs; when this very call may have been executed before, with ':' and the id of the event up
            to which the caller has read the stream; then per job:
            id (empty: generate)   name   data (JSON)   opts (JSON)   timestamp (ms)
            and 'wait', for a job without delay, priority and the like; else
            delay (ms)   priority   place (wait, next, prioritized, delayed or children)
            extra: empty, or one of
              parent, then: parent key   parent link (JSON)
              dedup, then: <modes>:<ttl in ms>:<deduplication id>, with the modes e (extend),
              r (replace), s (reschedule), k (keep last if active)
          and, with that id, per job that the events up to it report:
            id   added, replaced or owner   the other id   deduplication id
  Returns of a single job the number that was generated for its id, when it was added under that; else
          {} when more events came after that id than one call reads: nothing has changed. Else per job
          its code and id, and with the codes 3 and 4 another id:
          0 added, now or by the earlier execution: the job
          1 an existing id, nothing stored: the job
          2 deduplicated, nothing stored: the owner of the deduplication id
          3 added in place of a delayed job: the job, the job deleted
          4 kept as the last add to run after an active job: that job, the id it will have
          or a refusal: PARENT_MISSING, PARENT_CONFLICT, WAITS_FOR_ITSELF
  Emits   added, then waiting, delayed or waiting-children; duplicated for an existing id;
          deduplicated, then delayed for an owner that is rescheduled; removed and deduplicated
          before the added of a job that replaces another; waiting or delayed, for a parent that is
          released
  Uses    events; rarely codes, gate, marker, place, job, parent, insert, dedup, dedup_add, replay, adds, ancestors
]]
local B, id, name, place, extra = KEYS[1], ARGV[2], ARGV[3], ARGV[9] or 'wait', ARGV[10]
if ARGV[1] ~= '1' then
  return rest().add_all(B)
end
local events, generated = B .. 'events', id == ''

-- A single job. First a look at each key that the call will write: one of the wrong type fails it here.
local meta = redis.call('HMGET', B .. 'meta', 'paused', 'concurrency', 'opts.maxLenEvents')
local cap, has_event_cap = event_cap(meta[3])
redis.call('XLEN', events)
local exists, owner, owned, ttl = not generated and redis.call('EXISTS', B .. id) == 1, nil, nil, nil
if extra == 'parent' then
  if exists or redis.call('EXISTS', ARGV[11]) == 0 then
    return rest().add_all(B)
  end
  redis.call('SCARD', ARGV[11] .. ':dependencies')
elseif extra == 'dedup' then
  local modes
  modes, ttl, owned = string.match(ARGV[11], '^(%l*):(%d*):(.*)$')
  owner = redis.call('GET', B .. 'de:' .. owned)
  -- Others than an owner that stays as it is are in `dedup_add`.
  if exists or owner and (modes ~= '' or redis.call('EXISTS', B .. owner) == 0 or redis.call('ZSCORE', B .. 'completed', owner)
    or redis.call('ZSCORE', B .. 'failed', owner)) then
    return rest().add_all(B)
  end
  if ttl == '0' or ttl == '' or string.find(modes, 'k') then
    ttl = nil
  end
end
local blocked
if not (owner or exists) then
  if place == 'wait' or place == 'next' then
    redis.call('LLEN', B .. 'wait')
  else
    redis.call('ZCARD', B .. (place == 'children' and 'waiting-children' or place))
  end
  redis.call('ZCARD', B .. 'marker')
  local most = meta[2] and tonumber(meta[2])
  blocked = meta[1] or most and redis.call('LLEN', B .. 'active') >= most
end

-- The first write must be one that the server refuses when its memory is full.
local number = redis.call('INCR', B .. 'id')
if not has_event_cap then
  set_event_cap(B)
end
if exists then
  redis.call('XADD', events, 'MAXLEN', '~', cap, '*', 'event', 'duplicated', 'jobId', id)
  return { 1, id }
elseif generated then
  id = string.format('%.0f', number)
end
if owner then
  redis.call('XADD', events, 'MAXLEN', '~', cap, '*', 'event', 'deduplicated', 'jobId', owner, 'deduplicationId', owned,
    'deduplicatedJobId', id)
  return { 2, owner }
end
local key, delay, priority = B .. id, '0', '0'
if extra then
  delay, priority = ARGV[7], ARGV[8]
end
if extra == 'parent' then
  redis.call('HSET', key, 'name', name, 'data', ARGV[4], 'opts', ARGV[5], 'timestamp', ARGV[6], 'delay', delay,
    'priority', priority, 'parentKey', ARGV[11], 'parent', ARGV[12])
  redis.call('SADD', ARGV[11] .. ':dependencies', key)
elseif owned then
  redis.call('HSET', key, 'name', name, 'data', ARGV[4], 'opts', ARGV[5], 'timestamp', ARGV[6], 'delay', delay,
    'priority', priority, 'deid', owned)
  if ttl then
    redis.call('SET', B .. 'de:' .. owned, id, 'PX', ttl)
  else
    redis.call('SET', B .. 'de:' .. owned, id)
  end
else
  redis.call('HSET', key, 'name', name, 'data', ARGV[4], 'opts', ARGV[5], 'timestamp', ARGV[6], 'delay', delay,
    'priority', priority)
end
redis.call('XADD', events, 'MAXLEN', '~', cap, '*', 'event', 'added', 'jobId', id, 'name', name)

if place == 'delayed' then
  local due = ARGV[6] + delay
  local slot, text = string.format('%.0f', due * 4096), string.format('%.0f', due)
  -- After the jobs already due in the same millisecond.
  local last = redis.call('ZREVRANGEBYSCORE', B .. 'delayed', due * 4096 + 4095, slot, 'WITHSCORES', 'LIMIT', '0', '1')[2]
  redis.call('ZADD', B .. 'delayed', last and math.min(last + 1, due * 4096 + 4095) or slot, id)
  -- Whoever waits for the earliest of them learns of it.
  redis.call('ZADD', B .. 'marker', redis.call('ZRANGE', B .. 'delayed', '0', '0', 'WITHSCORES')[2] / 4096, '1')
  redis.call('XADD', events, '*', 'event', 'delayed', 'jobId', id, 'delay', text)
elseif place == 'children' then
  redis.call('ZADD', B .. 'waiting-children', ARGV[6], id)
  redis.call('XADD', events, '*', 'event', 'waiting-children', 'jobId', id)
else
  if place == 'wait' then
    redis.call('LPUSH', B .. 'wait', id)
  elseif place == 'next' then
    redis.call('RPUSH', B .. 'wait', id)
  else
    local count = redis.pcall('INCR', B .. 'pc')
    if type(count) == 'number' and count > 1 and count < 4294967296 and priority + 0 < 2097152 then
      redis.call('ZADD', B .. 'prioritized', string.format('%.0f', priority * 4294967296 + count), id)
    else
      rest().place_counted(B, id, priority + 0, type(count) == 'number' and count)
    end
  end
  if not blocked then
    redis.call('ZADD', B .. 'marker', '0', '0')
  end
  redis.call('XADD', events, '*', 'event', 'waiting', 'jobId', id)
end
return generated and number or 0
