--[[
  change_delay: delayed -> delayed
  Gives a delayed job another due time, counted from now.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 id   2 now (ms)   3 delay (ms)
  Returns {"ok"}, or a refusal: JOB_MISSING, or {WRONG_STATE, the state needed, the job's or ""}
  Emits   delayed
  Uses    codes, found, events, gate, marker, place
]]
local B, id, now, delay = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
if redis.call('EXISTS', B .. id) == 0 then
  return JOB_MISSING
end
local settings = check_queue(B)
redis.call('HLEN', B .. id)
if not redis.call('ZSCORE', B .. 'delayed', id) then
  return wrong_state(B, id, 'delayed')
end
local due = now + delay
place_delayed(B, id, due)
redis.call('HSET', B .. id, 'delay', delay)
emit(B, 'delayed', 'jobId', id, 'delay', due)
apply_event_cap(B, settings)
announce_due(B)
return { 'ok' }
