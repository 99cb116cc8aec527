--[[
  update_data: no change of state
  Replaces a job's data.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 id   2 data (JSON)
  Returns {"ok"}, or a refusal: JOB_MISSING
  Emits   nothing
  Uses    codes
]]
local job_key = KEYS[1] .. ARGV[1]
if redis.call('EXISTS', job_key) == 0 then
  return JOB_MISSING
end
redis.call('HSET', job_key, 'data', ARGV[2])
return { 'ok' }
