--[[
  claim_container: makes a container the one that a job may publish, unless another one is
  KEYS    1 claim of the job
  ARGV    1 container   2 time to live of the claim (ms)
  Returns the container that the job may publish
]]
local claim = KEYS[1]
local container, ttl = ARGV[1], ARGV[2]

local claimed = redis.call('GET', claim)
if claimed and claimed ~= container then
  return claimed
end
redis.call('SET', claim, container, 'PX', ttl)
return container
