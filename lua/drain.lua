--[[
  drain: waiting | prioritized | delayed -> removed
  Deletes jobs that have not started, in bounded steps. Pending iterations of job schedulers stay.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 which: wait, paused, prioritized or delayed
          2 how many entries to skip (those that earlier calls left in place)
  Returns {deleted, entries left in place so far, 1 when more is left}
  Emits   nothing for the deleted jobs
  Uses    gate, marker, job, parent, dedup, removal, lists
]]
local B = KEYS[1]
local which, skip = ARGV[1], tonumber(ARGV[2])
local STEP = 100
local key = B .. which
local is_list = which == 'wait' or which == 'paused'
local ids
if is_list then
  ids = redis.call('LRANGE', key, skip, skip + STEP - 1)
else
  ids = redis.call('ZRANGE', key, skip, skip + STEP - 1)
end
local doomed, from = {}, skip
for i, id in ipairs(ids) do
  if belongs_to_scheduler(B, id) then
    skip = skip + 1
  else
    doomed[#doomed + 1] = id
    if is_list then
      redis.call('LSET', key, from + i - 1, LEAVING)
    end
  end
end
if #doomed > 0 then
  if is_list then
    remove_near(key, #doomed, from, LEAVING)
  else
    redis.call('ZREM', key, unpack(doomed))
  end
end
for _, id in ipairs(doomed) do
  -- The keys of its parent may be unusable; the others must go all the same.
  pcall(remove_hard, B, id)
end
local size = is_list and redis.call('LLEN', key) or redis.call('ZCARD', key)
return { #doomed, skip, size > skip and 1 or 0 }
