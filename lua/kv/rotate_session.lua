--[[
  rotate_session: a session goes on under another id, and the old one is gone
  Asking again for the same version changes nothing.
  KEYS    1 old session hash   2 new session hash   3 index of their user, if it has one
  ARGV    1 tail of the old key   2 tail of the new key   3 data   4 version the old one must have
          5 new version   6 now (ms)   7 ends (ms, later than now)
  Returns ok, gone or conflict
  Emits   nothing
  Uses    sessions
]]
local old, new, index = KEYS[1], KEYS[2], KEYS[3] or ''
local old_tail, new_tail, data, expected, version = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local now, ends = tonumber(ARGV[6]), tonumber(ARGV[7])

if redis.call('HGET', new, 'version') == version then
  return 'ok'
end
local stored = redis.call('HMGET', old, 'version', 'created')
if not stored[1] then
  return 'gone'
elseif stored[1] ~= expected then
  return 'conflict'
end
check_index(index)
redis.call('DEL', old)
forget_session(index, old_tail)
redis.call('HSET', new, 'data', data, 'version', version, 'created', stored[2] or now, 'touched', now,
  'ends', ends, 'index', index)
redis.call('PEXPIRE', new, ends - now)
note_session(index, new_tail, ends, now)
return 'ok'
