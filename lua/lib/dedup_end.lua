-- What the end of a job means for the deduplication id it was added under (docs/protocol.md#deduplication).

-- A job (id, deid) completed or failed for good: frees its deduplication id, then queues the add that waited.
local function end_deduplication(B, job, now)
  local ended, dedup_id = job.id, job.deid

  -- Queues the add that waited for the owner to end, as a new owner.
  local function requeue_waiting_add()
    local next_key = B .. 'dn:' .. dedup_id
    local f = redis.call('HMGET', next_key, 'name', 'data', 'opts', 'jid', 'pk', 'pd', 'pdk', 'rjk')
    if not f[1] then
      return
    end
    local counter = redis.call('INCR', B .. 'id')
    local id = f[4]
    -- A job that took the id meanwhile keeps it.
    if not id or id == '' or redis.call('EXISTS', B .. id) == 1 then
      id = tostring(counter)
    end
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
        redis.call(opts.lifo and opts.lifo ~= cjson.null and 'RPUSH' or 'LPUSH', B .. 'wait', id)
      end
      wake_unless_blocked(B, read_settings(B))
      emit(B, 'waiting', 'jobId', id)
    end
    if f[7] and f[7] ~= '' then
      redis.call('SADD', f[7], B .. id)
    end
    local stored = type(opts.de) == 'table' and opts.de or {}
    claim(B, { id = dedup_id, ttl = math.floor(number_or_zero(stored.ttl)), keep_last = stored.keepLastIfActive }, id)
    redis.call('DEL', next_key)
  end

  local owner_key = B .. 'de:' .. dedup_id
  local ttl = redis.call('PTTL', owner_key)
  local owner = redis.call('GET', owner_key)
  if ttl == 0 or (ttl == -1 and owner == ended) then
    redis.call('DEL', owner_key)
  elseif owner and owner ~= ended and redis.call('HGET', B .. owner, 'deid') == dedup_id and not is_over(B, owner) then
    -- What waits is the present owner's to queue.
    return
  end
  requeue_waiting_add()
end
