--[[
  extend_locks: active (unchanged)
  Renews the locks that their workers still hold. Works when Redis is out of memory.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 lock duration (ms), then per job: id   lock token
  Returns the ids whose lock is gone or belongs to another worker
  Emits   nothing
  Uses    nothing
]]
local B = KEYS[1]
local duration = ARGV[1]
local keys = {}
for i = 2, #ARGV, 2 do
  keys[#keys + 1] = B .. ARGV[i] .. ':lock'
end
local lost, kept = {}, {}
local locks = redis.call('MGET', unpack(keys))
for k, key in ipairs(keys) do
  local id, token = ARGV[2 * k], ARGV[2 * k + 1]
  if locks[k] == token then
    redis.call('PEXPIRE', key, duration)
    kept[#kept + 1] = id
  else
    lost[#lost + 1] = id
  end
end
if #kept > 0 then
  -- The locks are renewed, whatever this key is.
  redis.pcall('SREM', B .. 'stalled', unpack(kept))
end
return lost
