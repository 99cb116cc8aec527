--[[
  list_sessions: lists the sessions of one user, those that end last first
  Drops from the index what has ended, in bounded steps.
  KEYS    1 index of the user
  ARGV    1 prefix of all session keys   2 now (ms)   3 most to look at
  Returns {tail of the key, created, touched, ends (ms), ... for each session}
  Emits   nothing
  Uses    sessions
]]
local index, prefix, now, most = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])

local found = {}
drop_ended(index, now)
local newest = redis.call('ZREVRANGE', index, 0, most - 1, 'WITHSCORES')
for i = 1, #newest, 2 do
  local tail = newest[i]
  if tonumber(newest[i + 1]) <= tonumber(now) then
    break
  end
  local times = redis.call('HMGET', prefix .. tail, 'created', 'touched', 'ends')
  if times[1] and times[2] and times[3] then
    local at = #found
    found[at + 1], found[at + 2], found[at + 3], found[at + 4] = tail, times[1], times[2], times[3]
  else
    redis.call('ZREM', index, tail)
  end
end
return found
