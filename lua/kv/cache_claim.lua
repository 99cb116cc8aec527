--[[
  cache_claim: who answers a request that the cache could not
  Looks for the entry again, then takes or renews the lock under which one process runs the handler.
  KEYS    1 body   2 record   3 lock
  ARGV    1 lock token   2 time to live of the lock (ms)
  Returns {"hit", body or nil, record or nil}, {"lead"}, or {"wait"} when another one leads
  Emits   nothing
  Uses    nothing
]]
local found = redis.call('MGET', KEYS[1], KEYS[2])
local holder = redis.call('GET', KEYS[3])
if found[1] or found[2] then
  return { 'hit', found[1], found[2] }
end
if holder and holder ~= ARGV[1] then
  return { 'wait' }
end
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[2])
return { 'lead' }
