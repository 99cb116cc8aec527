--[[
  promote_job: delayed -> waiting | prioritized
  Lets a delayed job run now.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 id
  Returns {"ok"}, or a refusal: JOB_MISSING, or {WRONG_STATE, the state needed, the job's or ""}
  Emits   waiting
  Uses    codes, found, events, gate, marker, place, job
]]
local B, id = KEYS[1], ARGV[1]
local job_key = B .. id
if redis.call('EXISTS', job_key) == 0 then
  return JOB_MISSING
end
local settings = check_queue(B)
local priority = redis.call('HGET', job_key, 'priority')
if redis.call('ZREM', B .. 'delayed', id) == 0 then
  return wrong_state(B, id, 'delayed')
end
place_ready(B, id, number_or_zero(priority), 'LPUSH')
wake_unless_blocked(B, settings)
redis.call('HSET', job_key, 'delay', 0)
emit(B, 'waiting', 'jobId', id, 'prev', 'delayed')
return { 'ok' }
