--[[
  update_progress: no change of state
  Replaces a job's progress and publishes it.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 id   2 progress (JSON)
  Returns {"ok"}, or a refusal: JOB_MISSING
  Emits   progress
  Uses    codes, events, gate
]]
local B, id = KEYS[1], ARGV[1]
if redis.call('EXISTS', B .. id) == 0 then
  return JOB_MISSING
end
redis.call('XLEN', B .. 'events')
local settings = read_settings(B)
redis.call('HSET', B .. id, 'progress', ARGV[2])
emit(B, 'progress', 'jobId', id, 'data', ARGV[2])
apply_event_cap(B, settings)
return { 'ok' }
