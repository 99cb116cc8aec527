--[[
  reseal_session: replaces the sealed data of a session, and changes nothing else
  The version stays, as the data does: a request that has loaded the session can still save it.
  KEYS    1 session hash
  ARGV    1 data it must have   2 new data
  Returns 1, or 0 when it has other data
  Emits   nothing
  Uses    nothing
]]
if redis.call('HGET', KEYS[1], 'data') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'data', ARGV[2])
return 1
