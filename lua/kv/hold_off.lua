--[[
  hold_off: postpones all use of a resource until a time
  A hold is never shortened: of several answers of the resource the latest time counts.
  KEYS    1 hold
  ARGV    1 until (ms)   2 time to live (ms)
  Returns the time in force (ms)
  Emits   nothing
  Uses    nothing
]]
local hold = KEYS[1]
-- Lua reads more as numbers, such as 'inf', and rounds beyond 2^53.
local held = tonumber(string.match(redis.call('GET', hold) or '0', '^%-?%d+$'))
if not held or held > 2 ^ 53 then
  return redis.error_reply('ERR the hold is not an integer')
end
local asked = tonumber(ARGV[1])
if held >= asked then
  return held
end
redis.call('SET', hold, ARGV[1], 'PX', ARGV[2])
return asked
