--[[
  change_priority: waiting | prioritized -> waiting | prioritized
  Gives a job another priority; in any other state only the field changes.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 id   2 priority (0: none)   3 lifo: 1 to run before the jobs of the same priority, else 0
  Returns {"ok"}, or a refusal: JOB_MISSING
  Emits   nothing
  Uses    codes, gate, marker, place
]]
local B, id, priority, lifo = KEYS[1], ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
if redis.call('EXISTS', B .. id) == 0 then
  return JOB_MISSING
end
local settings = check_queue(B)
redis.call('HLEN', B .. id)
local queued = redis.call('ZREM', B .. 'prioritized', id) == 1 or redis.call('LREM', B .. 'wait', -1, id) > 0
if queued then
  if priority > 0 and lifo then
    place_prioritized_first(B, id, priority)
  else
    place_ready(B, id, priority, lifo and 'RPUSH' or 'LPUSH')
  end
  wake_unless_blocked(B, settings)
end
redis.call('HSET', B .. id, 'priority', priority)
return { 'ok' }
