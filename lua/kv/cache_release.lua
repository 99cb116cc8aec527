--[[
  cache_release: gives up the lock of an answer that is not stored
  KEYS    1 lock
  ARGV    1 lock token
  Returns 1, or 0 when the lock is another one's
  Emits   nothing
  Uses    nothing
]]
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
