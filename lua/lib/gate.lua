-- Queue settings, read once per call, and the decision whether jobs may start.

local DEFAULT_EVENT_CAP = '10000'

-- Reads everything a transition needs from `meta`. Nothing is written.
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

-- Returns the length to trim the event stream to, and records the default where none is set.
local function event_cap(B, settings)
  if not settings.event_cap then
    redis.call('HSET', B .. 'meta', 'opts.maxLenEvents', DEFAULT_EVENT_CAP)
    settings.event_cap = DEFAULT_EVENT_CAP
  end
  return settings.event_cap
end

-- Paused, or at the global concurrency: jobs queue up but nothing is started or woken.
local function is_blocked(B, settings)
  if settings.paused then
    return true
  end
  return settings.concurrency ~= nil and redis.call('LLEN', B .. 'active') >= settings.concurrency
end
