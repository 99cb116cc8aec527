-- What the end of a job means for its parent (docs/protocol.md#failure-policies). A parent whose keys are
-- unusable never prevents its child from ending.

local function parent_of_completed(parent, child_key, value, now)
  if remove_pending(parent, child_key) then
    redis.call('HSET', parent.key .. ':processed', child_key, value)
    release_if_free(parent, now)
  end
end

-- A child that must not fail has failed: the parent fails too, once a worker picks it up.
local function defer_failure(parent, child_key, now)
  redis.call('ZADD', parent.key .. ':unsuccessful', now, child_key)
  if redis.call('EXISTS', parent.key) == 0 or redis.call('ZSCORE', parent.base .. 'failed', parent.id) then
    return
  end
  local waited = leave_waiting_children(parent)
  local delayed = not waited and redis.call('ZREM', parent.base .. 'delayed', parent.id) == 1
  redis.call('HSET', parent.key, 'defa', 'child ' .. child_key .. ' failed')
  if delayed then
    redis.call('HSET', parent.key, 'delay', 0)
  end
  if waited or delayed then
    queue_released(parent, now)
  end
end

local function parent_of_failed(parent, child_key, reason, now)
  local flags = parent.flags
  if flags.fpof then
    if remove_pending(parent, child_key) then
      defer_failure(parent, child_key, now)
    end
  elseif flags.cpof then
    if remove_pending(parent, child_key) then
      redis.call('HSET', parent.key .. ':failed', child_key, reason)
      if redis.call('EXISTS', parent.key) == 1 and leave_waiting_children(parent) then
        queue_released(parent, now)
      end
    end
  elseif flags.idof or flags.rdof then
    if remove_pending(parent, child_key) then
      if flags.idof then
        redis.call('HSET', parent.key .. ':failed', child_key, reason)
      end
      release_if_free(parent, now)
    end
  end
end
