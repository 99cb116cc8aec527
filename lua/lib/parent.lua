-- Finding a job's parent, and letting it run once no child keeps it waiting (docs/protocol.md#flows). The parent may
-- live in another queue.

-- Splits a job key into the queue's base (trailing colon included) and the id.
local function split_job_key(key)
  return string.match(key, '^(.*:)([^:]*)$')
end

-- Decodes the link to a parent; the second value is whether the id in it is exact. Half a surrogate
-- pair written as an escape, as `JSON.stringify` does, is no JSON for this decoder.
local function decode_link(parent_json)
  local link = decode_object(parent_json)
  if link or not parent_json then
    return link, true
  end
  return decode_object((string.gsub(parent_json, '\\u[dD][89a-fA-F]%x%x', '\\ufffd'))), false
end

-- Finds the parent named by a job's `parent` and `parentKey` fields: key, base, id, flags.
local function find_parent(parent_json, parent_key)
  local link, exact = decode_link(parent_json)
  local named = link and type(link.queueKey) == 'string' and link.id ~= nil
  if named and exact then
    local base = link.queueKey .. ':'
    return { key = base .. tostring(link.id), base = base, id = tostring(link.id), flags = link }
  end
  if parent_key and parent_key ~= '' then
    local base, id = split_job_key(parent_key)
    if named and string.sub(parent_key, 1, #link.queueKey + 1) == link.queueKey .. ':' then
      base, id = link.queueKey .. ':', string.sub(parent_key, #link.queueKey + 2)
    end
    if base then
      return { key = parent_key, base = base, id = id, flags = named and link or {} }
    end
  end
  return nil
end

-- Moves a parent that no longer waits into the queue it belongs in (docs/protocol.md#flows).
local function queue_released(parent, now)
  local B, id = parent.base, parent.id
  local stored = redis.call('HMGET', parent.key, 'delay', 'priority')
  local delay = number_or_zero(stored[1])
  if delay > 0 then
    local due = now + delay
    redis.call('ZADD', B .. 'delayed', due * 4096, id)
    emit(B, 'delayed', 'jobId', id, 'delay', due)
    announce_due(B)
    return
  end
  place_ready(B, id, number_or_zero(stored[2]), 'RPUSH')
  wake_unless_blocked(B, read_settings(B))
  emit(B, 'waiting', 'jobId', id, 'prev', 'waiting-children')
end

local function leave_waiting_children(parent)
  return redis.call('ZREM', parent.base .. 'waiting-children', parent.id) == 1
end

-- Releases the parent if it exists, still waits, and nothing is pending any more.
local function release_if_free(parent, now)
  if redis.call('SCARD', parent.key .. ':dependencies') == 0
    and redis.call('EXISTS', parent.key) == 1
    and leave_waiting_children(parent) then
    queue_released(parent, now)
  end
end

-- Releases the parent of a pending child that was deleted: it goes to `wait`, whatever its delay and priority.
local function release_after_removal(parent)
  if redis.call('SCARD', parent.key .. ':dependencies') == 0 and leave_waiting_children(parent) then
    redis.call('RPUSH', parent.base .. 'wait', parent.id)
    wake_unless_blocked(parent.base, read_settings(parent.base))
    emit(parent.base, 'waiting', 'jobId', parent.id, 'prev', 'waiting-children')
  end
end

-- Takes the child out of the parent's pending set; false if it was not there or cannot be.
local function remove_pending(parent, child_key)
  return redis.pcall('SREM', parent.key .. ':dependencies', child_key) == 1
end

-- A job that is deleted leaves its parent, which stops waiting for it.
local function unlink_from_parent(parent_json, parent_key, child_key)
  local parent = find_parent(parent_json, parent_key)
  if parent and remove_pending(parent, child_key) then
    release_after_removal(parent)
  end
end
