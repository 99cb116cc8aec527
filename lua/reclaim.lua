--[[
  reclaim: active (unchanged)
  Finds the jobs that a call started although its answer was lost: active jobs whose lock holds
  the call's token; in bounded steps, from the newest to the oldest. Nothing is changed: the jobs do not
  count as stalled.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 lock token   2 how many of the oldest active jobs are still to be searched (empty: all)
  Returns {how many are still to be searched, id, hash, id, hash, ...}
  Emits   nothing
  Uses    nothing
]]
local B, token = KEYS[1], ARGV[1]
local STEP = 1000
-- Counted from the oldest: jobs that start meanwhile move none of those that are left, and jobs that
-- end move them only nearer.
local size = redis.call('LLEN', B .. 'active')
local left = math.min(tonumber(ARGV[2]) or size, size)
local rest = math.max(left - STEP, 0)
local found = { rest }
if left > 0 then
  local ids, keys = redis.call('LRANGE', B .. 'active', -left, -(rest + 1)), {}
  for i, id in ipairs(ids) do
    keys[i] = B .. id .. ':lock'
  end
  local locks = redis.call('MGET', unpack(keys))
  for i, id in ipairs(ids) do
    if locks[i] == token then
      found[#found + 1] = id
      found[#found + 1] = redis.call('HGETALL', B .. id)
    end
  end
end
return found
