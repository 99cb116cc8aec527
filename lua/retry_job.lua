--[[
  retry_job: failed | completed -> waiting | prioritized
  Runs a finished job again. A child returns to the pending children of its parent. Stalls and a
  deferred failure of its earlier life are forgotten; the activations of that life stay known by
  their number (`stf`), because their workers may still ask what became of them.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 id   2 state: failed or completed   3 forget the attempts made: 1 or 0
          4 forget the attempts started: 1 or 0
  Returns {"ok"}, or a refusal: JOB_MISSING, WRONG_STATE
  Emits   waiting
  Uses    codes, events, gate, marker, place, job, parent
]]
local B, id, state = KEYS[1], ARGV[1], ARGV[2]
local job_key = B .. id
if redis.call('EXISTS', job_key) == 0 then
  return JOB_MISSING
end
redis.call('XLEN', B .. 'events')
redis.call('LLEN', B .. 'wait')
redis.call('ZCARD', B .. 'marker')
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

local settings = read_settings(B)
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
    redis.call('SADD', parent.key .. ':dependencies', job_key)
  end
end
emit(B, 'waiting', 'jobId', id, 'prev', state)
apply_event_cap(B, settings)
return { 'ok' }
