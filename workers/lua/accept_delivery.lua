--[[
  accept_delivery: a delivery's share gets its place in each of its conversations
  The first call gives the places; a repeat finds them given. A place is the time, or one more
  than the last place where that is later, so that places only rise.
  KEYS    1 delivery   2.. turns of each conversation
  ARGV    1 share   2 now (ms)   3 time to live (ms)
  Returns "done" if the share's events have been handled, else "open"
]]
local delivery = KEYS[1]
local share = ARGV[1]
local now = tonumber(ARGV[2])
local ttl = ARGV[3]

local state = redis.call('GET', delivery)
if state then
  return state
end

local places = {}
for i = 2, #KEYS do
  local last = redis.call('ZREVRANGE', KEYS[i], 0, 0, 'WITHSCORES')
  places[i] = math.max(now, (tonumber(last[2]) or 0) + 1)
end

for i = 2, #KEYS do
  redis.call('ZADD', KEYS[i], string.format('%.0f', places[i]), share)
  redis.call('PEXPIRE', KEYS[i], ttl)
end
redis.call('SET', delivery, 'open', 'PX', ttl)
return 'open'
