--[[
  save_session: replaces the data of a session that is there
  Asking again for the same version changes nothing.
  KEYS    1 session hash   2 index of its user, if it has one
  ARGV    1 tail of the session's key   2 data   3 version it must have, '' for any   4 new version
          5 last use (ms)   6 now (ms)   7 ends (ms, later than now)
  Returns ok, gone or conflict
  Emits   nothing
  Uses    sessions
]]
local key, index = KEYS[1], KEYS[2] or ''
local tail, data, expected, version = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local touched, now, ends = ARGV[5], tonumber(ARGV[6]), tonumber(ARGV[7])

local stored = redis.call('HMGET', key, 'version', 'index')
if not stored[1] then
  return 'gone'
elseif stored[1] == version then
  return 'ok'
elseif expected ~= '' and stored[1] ~= expected then
  return 'conflict'
end
local before = stored[2] or ''
check_index(index)
check_index(before)
redis.call('HSET', key, 'data', data, 'version', version, 'touched', touched, 'ends', ends, 'index', index)
redis.call('PEXPIRE', key, ends - now)
if before ~= index then
  forget_session(before, tail)
end
note_session(index, tail, ends, now)
return 'ok'
