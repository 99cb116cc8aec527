-- Deduplication keys at the end of a job's life (spec producing §7): `de:<id>` names the owner,
-- `dn:<id>` holds the newest add that arrived while the owner was active.

-- Queues the add that waited for the owner to end, as a new owner.
local function requeue_waiting_add(B, dedup_id, settings, now)
  local next_key = B .. 'dn:' .. dedup_id
  local f = redis.call('HMGET', next_key, 'name', 'data', 'opts', 'jid', 'pk', 'pd', 'pdk', 'rjk')
  if not f[1] then
    return
  end
  local counter = redis.call('INCR', B .. 'id')
  local id = f[4] and f[4] ~= '' and f[4] or tostring(counter)
  local opts = decode_object(f[3]) or {}
  local delay, priority = number_or_zero(opts.delay), number_or_zero(opts.priority)
  local fields = { 'name', f[1], 'data', f[2] or '{}', 'opts', f[3] or '{}', 'timestamp', now, 'delay', delay,
    'priority', priority, 'deid', dedup_id }
  for field, value in pairs({ parentKey = f[5], parent = f[6], rjk = f[8] }) do
    if value and value ~= '' then
      fields[#fields + 1] = field
      fields[#fields + 1] = value
    end
  end
  redis.call('HSET', B .. id, unpack(fields))
  emit(B, 'added', 'jobId', id, 'name', f[1])
  if delay ~= 0 then
    local due = delay > 0 and now + delay or now
    place_delayed(B, id, due)
    emit(B, 'delayed', 'jobId', id, 'delay', due)
    announce_due(B)
  else
    if priority > 0 then
      place_prioritized(B, id, priority)
    else
      redis.call(opts.lifo and 'RPUSH' or 'LPUSH', B .. 'wait', id)
    end
    wake_if_open(B, settings)
    emit(B, 'waiting', 'jobId', id)
  end
  if f[7] and f[7] ~= '' then
    redis.call('SADD', f[7], B .. id)
  end
  local dedup = type(opts.de) == 'table' and opts.de or {}
  local ttl = number_or_zero(dedup.ttl)
  if ttl > 0 and not dedup.keepLastIfActive then
    redis.call('SET', B .. 'de:' .. dedup_id, id, 'PX', ttl)
  else
    redis.call('SET', B .. 'de:' .. dedup_id, id)
  end
  redis.call('DEL', next_key)
end

-- A deduplicated job completed or finally failed: frees its id, then queues what waited for it.
local function end_deduplication(B, id, dedup_id, settings, now)
  local owner_key = B .. 'de:' .. dedup_id
  local ttl = redis.call('PTTL', owner_key)
  if ttl == 0 or (ttl == -1 and redis.call('GET', owner_key) == id) then
    redis.call('DEL', owner_key)
  end
  requeue_waiting_add(B, dedup_id, settings, now)
end

-- A deduplicated job was removed: its id is free if the job owned it.
local function drop_deduplication(B, id, dedup_id)
  if redis.call('GET', B .. 'de:' .. dedup_id) == id then
    redis.call('DEL', B .. 'de:' .. dedup_id, B .. 'dn:' .. dedup_id)
  end
end
