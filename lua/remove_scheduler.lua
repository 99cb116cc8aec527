--[[
  remove_scheduler: delayed -> removed
  Deletes a scheduler and its iteration, if that is delayed. One that waits or runs already is the
  last.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 scheduler id
  Returns 1 when there was such a scheduler, else 0
  Emits   removed, for the iteration
  Uses    events, job, scheduler
]]
local B, scheduler = KEYS[1], ARGV[1]
redis.call('XLEN', B .. 'events')
redis.call('ZCARD', B .. 'delayed')
local last = tonumber(redis.call('ZSCORE', B .. 'repeat', scheduler))
if not last then
  -- What has the key of a definition may be another scheduler's iteration.
  return 0
end
local id = iteration_id(scheduler, last)
if is_repeatable_key(scheduler) and redis.call('EXISTS', B .. id) == 0 then
  -- The id of a repeatable job's next job has a hash; an offset lets it be due after its occurrence.
  local until_next = tonumber(string.match(scheduler, ':(%d+)$')) or 1
  local ids = redis.call('ZREVRANGEBYSCORE', B .. 'delayed', (last + until_next) * 4096 - 1, last * 4096,
    'LIMIT', 0, SEARCH_MAX)
  for _, candidate in ipairs(ids) do
    if redis.pcall('HGET', B .. candidate, 'rjk') == scheduler then
      id = candidate
    end
  end
end
if redis.call('ZREM', B .. 'delayed', id) == 1 then
  delete_job_keys(B .. id)
  emit(B, 'removed', 'jobId', id, 'prev', 'delayed')
end
redis.call('ZREM', B .. 'repeat', scheduler)
redis.call('DEL', B .. 'repeat:' .. scheduler)
return 1
