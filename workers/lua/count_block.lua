--[[
  count_block: counts a block of an account, once for all requests that it refused
  KEYS    1 number of blocks
  ARGV    1 number that was read before   2 time to live (ms)
  Returns the number of blocks now
]]
local blocks = KEYS[1]
local read, ttl = tonumber(ARGV[1]), ARGV[2]

local counted = tonumber(redis.call('GET', blocks) or 0)
if counted ~= read then
  return counted
end
redis.call('SET', blocks, counted + 1, 'PX', ttl)
return counted + 1
