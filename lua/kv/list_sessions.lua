--[[
  list_sessions: lists sessions of one user, a page of those that end first behind the page before
  A session that is used meanwhile ends later: it may come twice, and none is passed over. Drops from the index
  what has ended, in bounded steps.
  KEYS    1 index of the user
  ARGV    1 prefix of all session keys   2 now (ms)   3 most to look at   4 tail of the last key of the page
          before, and 5 when its session ends (ms); both empty at the beginning
  Returns {1 when more sessions may follow, tail of the last key and when it ends, for the next page;
          then for each session tail of the key, created, touched, ends (ms)}
  Emits   nothing
  Uses    sessions
]]
local index, prefix, now, most = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
local last, ends = ARGV[4], ARGV[5]

drop_ended(index, now)
local from
if last ~= '' and redis.call('ZSCORE', index, last) == ends then
  from = redis.call('ZRANK', index, last) + 1
else
  from = redis.call('ZCOUNT', index, '-inf', ends == '' and now or '(' .. ends)
end
local page = redis.call('ZRANGE', index, from, from + most - 1, 'WITHSCORES')
local found = { #page == 2 * most and '1' or '0', last, ends }
for i = 1, #page, 2 do
  local tail = page[i]
  local times = redis.call('HMGET', prefix .. tail, 'created', 'touched', 'ends')
  if times[1] and times[2] and times[3] then
    local at = #found
    found[at + 1], found[at + 2], found[at + 3], found[at + 4] = tail, times[1], times[2], times[3]
    found[2], found[3] = tail, page[i + 1]
  else
    redis.call('ZREM', index, tail)
  end
end
return found
