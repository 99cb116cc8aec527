--[[
  swap: replaces a value that has not changed meanwhile, and keeps its time to live
  KEYS    1 value
  ARGV    1 value it must have   2 new value
  Returns 1, or 0 when it has another
  Emits   nothing
  Uses    nothing
]]
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'KEEPTTL')
return 1
