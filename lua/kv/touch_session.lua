--[[
  touch_session: notes that a session is in use
  KEYS    1 session hash   2 index of its user, if it has one
  ARGV    1 tail of the session's key   2 now (ms)   3 ends (ms, later than now)
  Returns ok or gone
  Emits   nothing
  Uses    sessions
]]
local key, index = KEYS[1], KEYS[2] or ''
local tail, now, ends = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])

if redis.call('HEXISTS', key, 'version') == 0 then
  return 'gone'
end
check_index(index)
redis.call('HSET', key, 'touched', now, 'ends', ends)
redis.call('PEXPIRE', key, ends - now)
note_session(index, tail, ends, now)
return 'ok'
