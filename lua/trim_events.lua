--[[
  trim_events: no change of state
  Cuts the queue's event stream, the oldest entries first; one bounded step.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 about how many entries to keep
  Returns how many entries were deleted
  Emits   nothing
  Uses    nothing
]]
return redis.call('XTRIM', KEYS[1] .. 'events', 'MAXLEN', '~', ARGV[1])
