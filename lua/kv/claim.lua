--[[
  claim: makes an owner the holder of a claim, unless another owner holds it
  KEYS    1 claim
  ARGV    1 owner   2 time to live (ms)
  Returns 1 when it is new, 2 when this owner had it and it was extended, or else its holder
  Emits   nothing
  Uses    nothing
]]
local claim, owner, ttl = KEYS[1], ARGV[1], ARGV[2]

local holder = redis.call('GET', claim)
if holder and holder ~= owner then
  return holder
end
redis.call('SET', claim, owner, 'PX', ttl)
return holder and 2 or 1
