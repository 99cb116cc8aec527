--[[
  cache_invalidate: one bounded step of deleting the entries of a tag
  The mark keeps answers that are being made from being stored.
  KEYS    1 set of the tag   2 mark of the tag
  ARGV    1 time of the mark (ms)   2 time to live of the mark (ms)   3 most entries
  Returns {entries deleted, entries left}
  Emits   nothing
  Uses    nothing
]]
local tag, mark = KEYS[1], KEYS[2]
local entries = redis.call('ZRANGE', tag, 0, tonumber(ARGV[3]) - 1)
redis.call('SET', mark, ARGV[1], 'PX', ARGV[2])
for _, entry in ipairs(entries) do
  redis.call('UNLINK', 'api:' .. entry, 'api:meta:' .. entry, 'api:stale:' .. entry)
end
if #entries > 0 then
  redis.call('ZREM', tag, unpack(entries))
end
return { #entries, redis.call('ZCARD', tag) }
