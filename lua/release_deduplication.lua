--[[
  release_deduplication: no job changes
  Frees a deduplication id, so that the next add under it is stored. An add that is kept until
  an active owner ends stays kept.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 deduplication id   2 owner: only if this job owns it (empty: any job)
  Returns 1 when it was freed, else 0
  Emits   nothing
  Uses    nothing
]]
local key, owner = KEYS[1] .. 'de:' .. ARGV[1], ARGV[2]
if owner ~= '' and redis.call('GET', key) ~= owner then
  return 0
end
return redis.call('DEL', key)
