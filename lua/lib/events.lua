-- The queue's event stream. Fields and their order: spec layout §8.

-- Appends one entry: the event's name, then its fields.
local function emit(B, event, ...)
  redis.call('XADD', B .. 'events', '*', 'event', event, ...)
end

-- Cuts the stream to about `cap` entries; once a call is enough.
local function trim_events(B, cap)
  redis.call('XTRIM', B .. 'events', 'MAXLEN', '~', cap)
end
