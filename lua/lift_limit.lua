--[[
  lift_limit: no job changes its state
  Ends the current window of the rate limit, or the limit imposed by hand, and wakes a worker where
  jobs are ready.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    none
  Returns 1 when there was such a window or limit, else 0
  Emits   nothing
  Uses    gate, marker
]]
local B = KEYS[1]
redis.call('LLEN', B .. 'active')
redis.call('ZCARD', B .. 'marker')
local settings, ready = read_settings(B), has_ready(B)
local there = redis.call('DEL', B .. 'limiter')
if ready then
  wake_unless_blocked(B, settings)
end
return there
