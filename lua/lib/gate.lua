-- Queue settings, read once per call, and what follows from them.

-- Reads what transitions need of `meta`. Nothing is written.
local function read_settings(B)
  local m = redis.call('HMGET', B .. 'meta', 'paused', 'concurrency', 'max', 'duration', 'opts.maxLenEvents')
  return {
    paused = m[1] and true or false,
    concurrency = m[2] and tonumber(m[2]) or nil,
    max = m[3] and tonumber(m[3]) or nil,
    duration = m[4] and tonumber(m[4]) or nil,
    event_cap = m[5],
  }
end

-- Reads one value of each place in which a job is queued, and of the marker: a key of the wrong type fails
-- here, before the first write. Returns how many jobs are active.
local function check_places(B)
  redis.call('LLEN', B .. 'wait')
  redis.call('ZCARD', B .. 'prioritized')
  redis.call('ZCARD', B .. 'delayed')
  redis.call('ZCARD', B .. 'marker')
  return redis.call('LLEN', B .. 'active')
end

-- The same of each key that queueing a job writes. Returns the settings and how many jobs are active.
local function check_queue(B)
  local settings = read_settings(B)
  redis.call('XLEN', B .. 'events')
  return settings, check_places(B)
end

-- Trims the event stream, and sees to it that the queue's settings have a length for it. Once a call is enough.
local function apply_event_cap(B, settings)
  local cap, is_set = event_cap(settings.event_cap)
  if not is_set then
    set_event_cap(B)
    settings.event_cap = cap
  end
  redis.call('XTRIM', B .. 'events', 'MAXLEN', '~', cap)
end

-- Paused, or at the global concurrency: jobs queue up but nothing is started or woken.
local function is_blocked(B, settings)
  if settings.paused then
    return true
  end
  return settings.concurrency ~= nil and redis.call('LLEN', B .. 'active') >= settings.concurrency
end
