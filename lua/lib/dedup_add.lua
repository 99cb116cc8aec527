-- What becomes of an add under a deduplication id (docs/protocol.md#deduplication).

-- What became of an add under its deduplication id, where it was not simply added.
local DEDUPLICATED = 2
local REPLACED = 3
local KEPT_LAST = 4

-- Returns the functions below. They are created on demand, because every call pays for each function
-- that its script creates, and few adds ask for deduplication.
local function deduplication()
  -- Reads how an add asks for deduplication: '<modes>:<ttl in ms>:<id>', each mode a letter.
  local function read(text)
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
  local function check(B, dedup)
    local owner = redis.call('GET', B .. 'de:' .. dedup.id)
    redis.call('HLEN', B .. 'dn:' .. dedup.id)
    if owner and dedup.reschedule then
      redis.call('HLEN', B .. owner)
    end
  end

  -- As above: the keys of the states in which owners are searched.
  local function check_states(B)
    for _, set in ipairs({ 'delayed', 'completed', 'failed' }) do
      redis.call('ZCARD', B .. set)
    end
    redis.call('LLEN', B .. 'active')
  end

  -- Returns whether a job is active. The list of active jobs may be long; a job that holds a lock is in it,
  -- and one that was never started is not.
  local function is_active(B, id)
    if redis.call('EXISTS', B .. id .. ':lock') == 1 then
      return true
    end
    return redis.call('HEXISTS', B .. id, 'processedOn') == 1 and redis.call('LPOS', B .. 'active', id) ~= false
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

  -- Gives the delayed owner the due time that the deduplicated add would have had.
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
  local function apply(B, dedup, add)
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
    -- Only the owner's end would have freed the id, and it has ended: the id must not stay taken.
    if redis.call('PTTL', owner_key) == -1 and is_over(B, owner) then
      redis.call('DEL', next_key)
      claim(B, dedup, add.id)
      return nil
    end
    if dedup.keep_last and is_active(B, owner) then
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

  return { read = read, check = check, check_states = check_states, apply = apply }
end
