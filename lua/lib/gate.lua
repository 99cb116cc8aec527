-- Queue settings, read once per call, and what follows from them.

-- The length of the event stream where the queue's settings say nothing.
local DEFAULT_EVENT_CAP = '10000'

-- Reads what transitions need of `meta`. Nothing is written.
local function read_settings(B)
  local m = redis.call('HMGET', B .. 'meta', 'paused', 'concurrency', 'max', 'duration', 'opts.maxLenEvents')
  return {
    paused = m[1] and true or false,
    concurrency = m[2] and tonumber(m[2]) or nil,
    max = m[3] and tonumber(m[3]) or nil,
    duration = m[4] and tonumber(m[4]) or nil,
    -- A length that the server would refuse counts as none.
    event_cap = m[5] and string.find(m[5], '^%d+$') and #m[5] < 19 and m[5],
  }
end

-- Reads one value of each key that queueing a job writes: a key of the wrong type fails here, before the
-- first write. Returns the settings and how many jobs are active.
local function check_queue(B)
  local settings = read_settings(B)
  redis.call('XLEN', B .. 'events')
  redis.call('LLEN', B .. 'wait')
  redis.call('ZCARD', B .. 'prioritized')
  redis.call('ZCARD', B .. 'delayed')
  redis.call('ZCARD', B .. 'marker')
  return settings, redis.call('LLEN', B .. 'active')
end

-- Trims the event stream to the length in the queue's settings, and writes the default there first where
-- they have none (docs/protocol.md#queue-settings). Once a call is enough.
local function apply_event_cap(B, settings)
  if not settings.event_cap then
    redis.call('HSET', B .. 'meta', 'opts.maxLenEvents', DEFAULT_EVENT_CAP)
    settings.event_cap = DEFAULT_EVENT_CAP
  end
  redis.call('XTRIM', B .. 'events', 'MAXLEN', '~', settings.event_cap)
end

-- Paused, or at the global concurrency: jobs queue up but nothing is started or woken.
local function is_blocked(B, settings)
  if settings.paused then
    return true
  end
  return settings.concurrency ~= nil and redis.call('LLEN', B .. 'active') >= settings.concurrency
end
