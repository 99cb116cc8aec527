--[[
  retry_job: failed | completed -> waiting | prioritized
  Runs a finished job again. A child returns to the pending children of its parent. The count of stalls
  and a deferred failure are cleared; `stf` keeps the number of the last activation before that, because
  workers may still repeat results of those activations.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 id   2 state: failed or completed   3 reset the attempts made: 1 or 0
          4 reset the attempts started: 1 or 0
  Returns {"ok"}, or a refusal: JOB_MISSING, WRONG_STATE
  Emits   waiting
  Uses    codes, events, gate, marker, place, job, parent
]]
local B, id, state = KEYS[1], ARGV[1], ARGV[2]
local job_key = B .. id
if redis.call('EXISTS', job_key) == 0 then
  return JOB_MISSING
end
local settings = check_queue(B)
local job = redis.call('HMGET', job_key, 'priority', 'opts', 'parent', 'parentKey', 'stc', 'ats')
if redis.call('ZREM', B .. state, id) == 0 then
  return WRONG_STATE
end

local forget = { 'finishedOn', 'processedOn', state == 'failed' and 'failedReason' or 'returnvalue', 'stc', 'defa' }
if ARGV[3] == '1' then
  forget[#forget + 1] = 'atm'
end
if ARGV[4] == '1' then
  forget[#forget + 1] = 'ats'
end
redis.call('HDEL', job_key, unpack(forget))
if number_or_zero(job[5]) > 0 then
  redis.call('HSET', job_key, 'stf', number_or_zero(job[6]))
end

local lifo = (decode_object(job[2]) or {}).lifo
if lifo == cjson.null or lifo == 0 or lifo == '' then
  lifo = false
end
place_ready(B, id, number_or_zero(job[1]), lifo and 'RPUSH' or 'LPUSH')
wake_unless_blocked(B, settings)

local parent = (job[3] or job[4]) and find_parent(job[3], job[4])
if parent and redis.call('EXISTS', parent.key) == 1 then
  local back
  if state == 'failed' then
    back = redis.pcall('ZREM', parent.key .. ':unsuccessful', job_key) == 1
      or redis.pcall('HDEL', parent.key .. ':failed', job_key) == 1
  else
    back = redis.pcall('HDEL', parent.key .. ':processed', job_key) == 1
  end
  if back then
    redis.pcall('SADD', parent.key .. ':dependencies', job_key)
  end
end
emit(B, 'waiting', 'jobId', id, 'prev', state)
apply_event_cap(B, settings)
return { 'ok' }
