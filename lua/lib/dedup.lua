-- Deduplication keys (spec producing §7): `de:<id>` names the owner of a deduplication id, `dn:<id>`
-- holds the newest add that arrived while the owner was active.

-- What became of an add under its deduplication id, where it was not simply added.
local DEDUPLICATED = 2
local REPLACED = 3
local KEPT_LAST = 4

-- Reads how an add asks for deduplication: '<modes>:<ttl in ms>:<id>', each mode a letter.
local function read_deduplication(text)
  local modes, ttl, id = string.match(text, '^(%l*):(%d*):(.*)$')
  return {
    id = id,
    ttl = number_or_zero(ttl),
    extend = string.find(modes, 'e') ~= nil,
    replace = string.find(modes, 'r') ~= nil,
    reschedule = string.find(modes, 's') ~= nil,
    keep_last = string.find(modes, 'k') ~= nil,
  }
end

-- Fails for keys of the wrong type, before anything is written: those of one deduplication id.
local function check_deduplication(B, dedup)
  local owner = redis.call('GET', B .. 'de:' .. dedup.id)
  redis.call('HLEN', B .. 'dn:' .. dedup.id)
  if owner and dedup.reschedule then
    redis.call('HLEN', B .. owner)
  end
end

-- As above: those of the states in which owners are looked for.
local function check_owner_states(B)
  for _, set in ipairs({ 'delayed', 'completed', 'failed' }) do
    redis.call('ZCARD', B .. set)
  end
  redis.call('LLEN', B .. 'active')
end

-- Says whether a job has vanished or ended: it will not free its deduplication id any more.
local function is_over(B, id)
  return redis.call('EXISTS', B .. id) == 0 or redis.call('ZSCORE', B .. 'completed', id)
    or redis.call('ZSCORE', B .. 'failed', id)
end

-- Makes a job the owner. With keep_last the owner's end frees the id, and no time limit does.
local function claim(B, dedup, id)
  local key = B .. 'de:' .. dedup.id
  if dedup.ttl > 0 and not dedup.keep_last then
    redis.call('SET', key, id, 'PX', dedup.ttl)
  else
    redis.call('SET', key, id)
  end
end

-- Deletes the delayed owner, which has left `delayed` already; `id` takes its place.
local function replace_owner(B, dedup, owner, id)
  local owner_key = B .. owner
  local link = redis.pcall('HMGET', owner_key, 'parent', 'parentKey')
  delete_job_keys(owner_key)
  emit(B, 'removed', 'jobId', owner, 'prev', 'delayed')
  emit(B, 'deduplicated', 'jobId', id, 'deduplicationId', dedup.id, 'deduplicatedJobId', owner)
  redis.call('DEL', B .. 'dn:' .. dedup.id)
  if dedup.ttl > 0 and not dedup.extend and not dedup.keep_last then
    redis.call('SET', B .. 'de:' .. dedup.id, id, 'KEEPTTL')
  else
    claim(B, dedup, id)
  end
  if link[1] or link[2] then
    pcall(unlink_from_parent, link[1], link[2], owner_key)
  end
end

-- Lets the delayed owner wait as long as the add that it stands for would have.
local function reschedule_owner(B, owner, delay, timestamp)
  if not redis.call('ZSCORE', B .. 'delayed', owner) or redis.call('EXISTS', B .. owner) == 0 then
    return
  end
  local due = timestamp + delay
  redis.call('HSET', B .. owner, 'delay', delay)
  place_delayed(B, owner, due)
  emit(B, 'delayed', 'jobId', owner, 'delay', due)
  announce_due(B)
end

-- Applies deduplication to an add (id, name, data, opts, timestamp, delay). Returns nothing when the
-- job is to be stored, REPLACED and the deleted job when it is to be stored in its place; else
-- DEDUPLICATED or KEPT_LAST, and the owner.
local function deduplicate(B, dedup, add)
  local owner_key, next_key = B .. 'de:' .. dedup.id, B .. 'dn:' .. dedup.id
  local owner = redis.call('GET', owner_key)
  if not owner then
    claim(B, dedup, add.id)
    return nil
  end
  if dedup.replace and redis.call('ZREM', B .. 'delayed', owner) == 1 then
    replace_owner(B, dedup, owner, add.id)
    return REPLACED, owner
  end
  -- Only its end would have freed the id, and that is past: it must not block the id for ever.
  if redis.call('PTTL', owner_key) == -1 and is_over(B, owner) then
    redis.call('DEL', next_key)
    claim(B, dedup, add.id)
    return nil
  end
  if dedup.keep_last and redis.call('LPOS', B .. 'active', owner) then
    redis.call('DEL', next_key)
    redis.call('HSET', next_key, 'name', add.name, 'data', add.data, 'opts', add.opts, 'jid', add.id)
    redis.call('PERSIST', owner_key)
    emit(B, 'deduplicated', 'jobId', owner, 'deduplicationId', dedup.id, 'deduplicatedJobId', add.id)
    return KEPT_LAST, owner
  end
  -- Compat: an owner that can no longer be replaced is returned without an event.
  if not dedup.replace then
    if dedup.extend and dedup.ttl > 0 then
      claim(B, dedup, owner)
    end
    emit(B, 'deduplicated', 'jobId', owner, 'deduplicationId', dedup.id, 'deduplicatedJobId', add.id)
    if dedup.reschedule then
      reschedule_owner(B, owner, tonumber(add.delay), tonumber(add.timestamp))
    end
  end
  return DEDUPLICATED, owner
end

-- Queues the add that waited for the owner to end, as a new owner.
local function requeue_waiting_add(B, dedup_id, settings, now)
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
      redis.call(opts.lifo and 'RPUSH' or 'LPUSH', B .. 'wait', id)
    end
    wake_if_open(B, settings)
    emit(B, 'waiting', 'jobId', id)
  end
  if f[7] and f[7] ~= '' then
    redis.call('SADD', f[7], B .. id)
  end
  local stored = type(opts.de) == 'table' and opts.de or {}
  claim(B, { id = dedup_id, ttl = math.floor(number_or_zero(stored.ttl)), keep_last = stored.keepLastIfActive }, id)
  redis.call('DEL', next_key)
end

-- A deduplicated job completed or finally failed: frees its id, then queues what waited for it.
local function end_deduplication(B, id, dedup_id, settings, now)
  local owner_key = B .. 'de:' .. dedup_id
  local ttl = redis.call('PTTL', owner_key)
  local owner = redis.call('GET', owner_key)
  if ttl == 0 or (ttl == -1 and owner == id) then
    redis.call('DEL', owner_key)
  elseif owner and owner ~= id and redis.call('HGET', B .. owner, 'deid') == dedup_id and not is_over(B, owner) then
    -- What waits is the present owner's to queue.
    return
  end
  requeue_waiting_add(B, dedup_id, settings, now)
end

-- A deduplicated job was removed: its id is free if the job owned it.
local function drop_deduplication(B, id, dedup_id)
  if redis.pcall('GET', B .. 'de:' .. dedup_id) == id then
    redis.call('DEL', B .. 'de:' .. dedup_id, B .. 'dn:' .. dedup_id)
  end
end
