-- Running finished jobs again (docs/protocol.md#acting-on-jobs).

-- What a retry reads of a job.
local RETRY_FIELDS = { 'priority', 'opts', 'parent', 'parentKey', 'stc', 'ats' }

-- Queues a job that has left its set. job: id, state (failed or completed), fields (of RETRY_FIELDS); reset: made,
-- started (whether these counts begin from zero). A child returns to the pending children of its parent.
local function run_again(B, job, reset)
  local id, state, fields = job.id, job.state, job.fields
  local job_key = B .. id
  local forget = { 'finishedOn', 'processedOn', state == 'failed' and 'failedReason' or 'returnvalue', 'stc', 'defa' }
  if reset.made then
    forget[#forget + 1] = 'atm'
  end
  if reset.started then
    forget[#forget + 1] = 'ats'
  end
  redis.call('HDEL', job_key, unpack(forget))
  if number_or_zero(fields[5]) > 0 then
    redis.call('HSET', job_key, 'stf', number_or_zero(fields[6]))
  end

  local lifo = (decode_object(fields[2]) or {}).lifo
  if lifo == cjson.null or lifo == 0 or lifo == '' then
    lifo = false
  end
  place_ready(B, id, number_or_zero(fields[1]), lifo and 'RPUSH' or 'LPUSH')

  local parent = (fields[3] or fields[4]) and find_parent(fields[3], fields[4])
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
end
