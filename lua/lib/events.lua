-- The queue's event stream. Fields and their order: docs/protocol.md#events.

-- Appends one entry: the event's name, then its fields. Returns its id.
local function emit(B, event, ...)
  return redis.call('XADD', B .. 'events', '*', 'event', event, ...)
end

-- Returns the length of the stream that the queue's settings say, and whether they do: they may have none, or one that
-- the server would refuse.
local function event_cap(text)
  if text and string.find(text, '^%d+$') and #text < 19 then
    return text, true
  end
  return '10000', false
end

-- Writes the default length into the queue's settings (docs/protocol.md#queue-settings).
local function set_event_cap(B)
  redis.call('HSET', B .. 'meta', 'opts.maxLenEvents', '10000')
end
