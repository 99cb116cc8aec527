--[[
  create_session: stores a new session
  Makes room for it where its user has too many: those that would end first go, in bounded steps. Asking
  again for the same session changes nothing.
  KEYS    1 session hash   2 index of its user, if it has one
  ARGV    1 prefix of all session keys   2 tail of the session's key   3 data   4 version
          5 now (ms)   6 ends (ms, later than now)   7 most sessions in the index   8 1: refuse
          instead of making room
  Returns ok, or full; or more: too many had to go for one call, so it is to be made again
  Emits   nothing
  Uses    sessions
]]
local ROOM_MAX = 250
local key, index = KEYS[1], KEYS[2] or ''
local prefix, tail, data, version = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local now, ends, most, refuse = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), ARGV[8] == '1'

if redis.call('HGET', key, 'version') == version then
  return 'ok'
end
if index ~= '' then
  local surplus = redis.call('ZCOUNT', index, '(' .. ARGV[5], '+inf') - most + 1
  if surplus > 0 then
    if refuse then
      return 'full'
    end
    local first = redis.call('ZRANGEBYSCORE', index, '(' .. ARGV[5], '+inf', 'LIMIT', 0, math.min(surplus, ROOM_MAX))
    local sessions = {}
    for i, other in ipairs(first) do
      sessions[i] = prefix .. other
    end
    redis.call('DEL', unpack(sessions))
    redis.call('ZREM', index, unpack(first))
    if surplus > ROOM_MAX then
      return 'more'
    end
  end
end
redis.call('HSET', key, 'data', data, 'version', version, 'created', now, 'touched', now, 'ends', ends,
  'index', index)
redis.call('PEXPIRE', key, ends - now)
note_session(index, tail, ends, now)
return 'ok'
