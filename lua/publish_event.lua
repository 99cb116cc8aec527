--[[
  publish_event: no change of state
  Appends an application's own event to the queue's stream, and bounds the stream.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 how many entries the stream keeps (-1: as many as the queue's settings say)
          2 event   3... its fields: name, value
  Returns the id of the entry
  Emits   the event
  Uses    events, gate
]]
local B, cap = KEYS[1], ARGV[1]
redis.call('XLEN', B .. 'events')
local settings = read_settings(B)
local id = emit(B, unpack(ARGV, 2))
if cap == '-1' then
  apply_event_cap(B, settings)
else
  redis.call('XTRIM', B .. 'events', 'MAXLEN', '~', cap)
end
return id
