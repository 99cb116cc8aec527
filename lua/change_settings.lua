--[[
  change_settings: no job changes its state
  Sets or removes settings that limit how many jobs may be active, or start in a window of time. The
  change may allow jobs to start, so a worker is woken if any are ready.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1, 2, ... a field of `meta` and its value; an empty value removes the field
  Returns how many of the fields were set before
  Emits   nothing
  Uses    gate, marker
]]
local B = KEYS[1]
redis.call('LLEN', B .. 'active')
redis.call('ZCARD', B .. 'marker')
local ready = has_ready(B)

local there = 0
for i = 1, #ARGV, 2 do
  there = there + redis.call('HEXISTS', B .. 'meta', ARGV[i])
  if ARGV[i + 1] == '' then
    redis.call('HDEL', B .. 'meta', ARGV[i])
  else
    redis.call('HSET', B .. 'meta', ARGV[i], ARGV[i + 1])
  end
end
if ready then
  wake_unless_blocked(B, read_settings(B))
end
return there
