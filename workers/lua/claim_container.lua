--[[
  claim_container: makes a container the one that a job may publish, unless another one is, or a job the one
  that has published a post of an account
  KEYS    1 claim of the job or of the post
  ARGV    1 container or job   2 time to live of the claim (ms)
  Returns the container that the job may publish, or the job that has published the post
]]
local claim = KEYS[1]
local container, ttl = ARGV[1], ARGV[2]

local claimed = redis.call('GET', claim)
if claimed and claimed ~= container then
  return claimed
end
redis.call('SET', claim, container, 'PX', ttl)
return container
