-- The queue's event stream. Fields and their order: docs/protocol.md#events.

-- Appends one entry: the event's name, then its fields. Returns its id.
local function emit(B, event, ...)
  return redis.call('XADD', B .. 'events', '*', 'event', event, ...)
end
