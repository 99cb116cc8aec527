--[[
  cache_store: stores an answer under its key and its tags, and gives up the lock
  Nothing is stored when one of the tags was invalidated after the request began: the answer may be from
  before the change. Each tag loses some of its expired entries, more than it gains.
  KEYS    1 body   2 record   3 stale copy   4 lock   then for each tag: its set, its mark
  ARGV    1 lock token   2 start of the request (ms)   3 now (ms)   4 time to live (ms)
          5 how much longer the stale copy lives (ms), 0 for none   6 name of the entry
          7 head of a record that holds the body   8 head of one beside the body, or empty   9 body
  Returns 1, or 0 when it is outdated
  Emits   nothing
  Uses    nothing
]]
local body, record, stale, lock = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local started, now, fresh, extra = tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
-- Appended, as joining them here would copy and hash a large body once more.
local function write_whole(key, ttl)
  redis.call('SET', key, ARGV[7], 'PX', ttl)
  redis.call('APPEND', key, ARGV[9])
end
local ours = redis.call('GET', lock) == ARGV[1]
local outdated = false
for i = 5, #KEYS, 2 do
  redis.call('ZCARD', KEYS[i])
  local mark = tonumber(redis.call('GET', KEYS[i + 1]) or 0)
  if mark and mark >= started then
    outdated = true
  end
end
if ours then
  redis.call('DEL', lock)
end
if outdated then
  return 0
end
if ARGV[8] ~= '' then
  redis.call('SET', body, ARGV[9], 'PX', fresh)
  redis.call('SET', record, ARGV[8], 'PX', fresh)
else
  -- A body that other clients cannot read must not stay beside this one.
  redis.call('UNLINK', body)
  write_whole(record, fresh)
end
local kept = fresh + extra
if extra > 0 then
  write_whole(stale, kept)
end
for i = 5, #KEYS, 2 do
  local tag = KEYS[i]
  local expired = redis.call('ZRANGEBYSCORE', tag, '-inf', ARGV[3], 'LIMIT', 0, 100)
  if #expired > 0 then
    redis.call('ZREM', tag, unpack(expired))
  end
  redis.call('ZADD', tag, string.format('%.0f', now + kept), ARGV[6])
  if redis.call('PTTL', tag) < kept then
    redis.call('PEXPIRE', tag, kept)
  end
end
return 1
