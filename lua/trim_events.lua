--[[
  trim_events: no change of state
  Cuts the queue's event stream, the oldest entries first; one bounded step.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 about how many entries to keep
  Returns how many entries are gone
  Emits   nothing
  Uses    events
]]
return trim_events(KEYS[1], ARGV[1])
