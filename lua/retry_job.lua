--[[
  retry_job: failed | completed -> waiting | prioritized
  Runs a finished job again. A child returns to the pending children of its parent. The count of stalls
  and a deferred failure are cleared; `stf` keeps the number of the last activation before that, because
  workers may still repeat results of those activations.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 id   2 state: failed or completed   3 reset the attempts made: 1 or 0
          4 reset the attempts started: 1 or 0
  Returns {"ok"}, or a refusal: JOB_MISSING, or {WRONG_STATE, the state needed, the job's or ""}
  Emits   waiting
  Uses    codes, found, events, gate, marker, place, job, parent, retry
]]
local B, id, state = KEYS[1], ARGV[1], ARGV[2]
if redis.call('EXISTS', B .. id) == 0 then
  return JOB_MISSING
end
local settings = check_queue(B)
local fields = redis.call('HMGET', B .. id, unpack(RETRY_FIELDS))
if redis.call('ZREM', B .. state, id) == 0 then
  return wrong_state(B, id, state)
end
run_again(B, { id = id, state = state, fields = fields }, { made = ARGV[3] == '1', started = ARGV[4] == '1' })
wake_unless_blocked(B, settings)
apply_event_cap(B, settings)
return { 'ok' }
