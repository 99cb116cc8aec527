--[[
  destroy_session: ends one session
  KEYS    1 session hash
  ARGV    1 tail of the session's key
  Returns 1, or 0 when there was none
  Emits   nothing
  Uses    sessions
]]
local index = redis.call('HGET', KEYS[1], 'index') or ''
check_index(index)
forget_session(index, ARGV[1])
return redis.call('DEL', KEYS[1])
