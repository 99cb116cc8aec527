--[[
  reclaim: active (unchanged)
  Finds the jobs that a call started although its answer was lost: active jobs whose lock holds
  the call's token. Nothing is changed, so the job's counters do not show the lost answer.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 lock token   2 how many of the newest active jobs to look at
  Returns id, hash, id, hash, ...
  Emits   nothing
  Uses    nothing
]]
local B = KEYS[1]
local token, depth = ARGV[1], tonumber(ARGV[2])
local ids = redis.call('LRANGE', B .. 'active', 0, depth - 1)
local found = {}
local CHUNK = 1000
for from = 1, #ids, CHUNK do
  local to = math.min(from + CHUNK - 1, #ids)
  local keys = {}
  for i = from, to do
    keys[#keys + 1] = B .. ids[i] .. ':lock'
  end
  local locks = redis.call('MGET', unpack(keys))
  for i = from, to do
    if locks[i - from + 1] == token then
      found[#found + 1] = ids[i]
      found[#found + 1] = redis.call('HGETALL', B .. ids[i])
    end
  end
end
return found
