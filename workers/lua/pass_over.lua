--[[
  pass_over: a share that will not come gives up its place in a conversation
  KEYS    1 turns   2 number of places passed over
  ARGV    1 share   2 its place   3 time to live of the number (ms)
  Returns 1, or 0 if the share is not in that place any more
]]
local turns, passed = KEYS[1], KEYS[2]
local share, place, ttl = ARGV[1], tonumber(ARGV[2]), ARGV[3]

redis.call('GET', passed)
if tonumber(redis.call('ZSCORE', turns, share)) ~= place then
  return 0
end
redis.call('ZREM', turns, share)
redis.call('INCR', passed)
redis.call('PEXPIRE', passed, ttl)
return 1
