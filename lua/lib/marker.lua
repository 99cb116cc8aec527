-- Wake-up signals in the `marker` set (docs/protocol.md#wake-up-markers): member `0` says "try now", member `1`
-- carries the due time of the earliest delayed job.

local function wake(B)
  redis.call('ZADD', B .. 'marker', '0', '0')
end

-- Returns whether jobs are ready to start.
local function has_ready(B)
  return redis.call('LLEN', B .. 'wait') + redis.call('ZCARD', B .. 'prioritized') > 0
end

-- Wakes a worker unless the queue is blocked.
local function wake_unless_blocked(B, settings)
  if not is_blocked(B, settings) then
    wake(B)
  end
end

-- Returns the due time (ms, possibly fractional) of the earliest delayed job, or nil.
local function next_due(B)
  local first = redis.call('ZRANGE', B .. 'delayed', '0', '0', 'WITHSCORES')
  return first[2] and tonumber(first[2]) / 4096 or nil
end

-- Announces the earliest delayed job; also while the queue is paused.
local function announce_due(B)
  local due = next_due(B)
  if due then
    redis.call('ZADD', B .. 'marker', due, '1')
  end
end
