--[[
  fixed_window: counts a request in its window, if it fits
  A refused request is not counted. Every counted one renews the time to live, which also repairs a
  counter that another client left without one.
  KEYS    1 counter of the window
  ARGV    1 limit   2 cost   3 time to live (ms)   4 peek: 1 to count nothing
  Returns {allowed (1 or 0), remaining}
  Emits   nothing
  Uses    nothing
]]
local counter = KEYS[1]
local limit, cost = tonumber(ARGV[1]), tonumber(ARGV[2])
-- Lua reads more as numbers, such as 'inf', than Redis counts with.
local used = tonumber(string.match(redis.call('GET', counter) or '0', '^%-?%d+$'))
if not used then
  return redis.error_reply('ERR the counter is not an integer')
end
local fits = used + cost <= limit
if fits and ARGV[4] ~= '1' then
  used = redis.call('INCRBY', counter, cost)
  redis.call('PEXPIRE', counter, ARGV[3])
end
return { fits and 1 or 0, math.max(limit - used, 0) }
