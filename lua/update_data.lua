--[[
  update_data: no change of state
  Replaces a job's data. A handler may do so only while its worker holds the lock: one that was suspended
  for longer than the lock lasts must not overwrite what another worker has written since.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 id   2 data (JSON)   3 lock token (empty: the caller is not a handler)
  Returns {"ok"}, or a refusal: JOB_MISSING, LOCK_MISSING, LOCK_LOST
  Emits   nothing
  Uses    codes
]]
local job_key = KEYS[1] .. ARGV[1]
if redis.call('EXISTS', job_key) == 0 then
  return JOB_MISSING
end
if ARGV[3] ~= '' then
  local holder = redis.call('GET', job_key .. ':lock')
  if holder ~= ARGV[3] then
    return holder and LOCK_LOST or LOCK_MISSING
  end
end
redis.call('HSET', job_key, 'data', ARGV[2])
return { 'ok' }
