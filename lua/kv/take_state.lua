--[[
  take_state: takes an OAuth state, for the browser it was given to
  Another browser leaves it in place, so that no browser can use up the state of another.
  KEYS    1 state: "<binding>.<sealed>"
  ARGV    1 binding of the browser that asks
  Returns the sealed part; 0: there is none; 1: it is another browser's
  Emits   nothing
  Uses    nothing
]]
local stored = redis.call('GET', KEYS[1])
if not stored then
  return 0
end
local own = ARGV[1] .. '.'
if string.sub(stored, 1, #own) ~= own then
  return 1
end
redis.call('DEL', KEYS[1])
return string.sub(stored, #own + 1)
