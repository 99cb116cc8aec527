-- Delayed jobs whose time has come.

-- How many due jobs one call moves; the rest follows with the next call.
local PROMOTE_MAX = 100

-- Queues a job that has left `delayed`. Returns whether there is such a job.
local function promote_left(B, id)
  local job_key = B .. id
  local job = redis.pcall('HMGET', job_key, 'priority', 'timestamp')
  if not job[1] and not job[2] then
    return false
  end
  place_ready(B, id, number_or_zero(job[1]), 'LPUSH')
  emit(B, 'waiting', 'jobId', id, 'prev', 'delayed')
  redis.call('HSET', job_key, 'delay', 0)
  return true
end

-- Moves due jobs behind what is already waiting; an id without a job is dropped. Returns how
-- many ids left `delayed`.
local function promote_due(B, settings, now)
  -- Most calls find nothing due, and reading the first one costs half.
  local first = next_due(B)
  if not first or first >= now + 1 then
    return 0
  end
  local ids = redis.call('ZRANGEBYSCORE', B .. 'delayed', '-inf', (now + 1) * 4096 - 1, 'LIMIT', 0, PROMOTE_MAX)
  if #ids == 0 then
    return 0
  end
  local blocked = is_blocked(B, settings)
  redis.call('ZREM', B .. 'delayed', unpack(ids))
  for _, id in ipairs(ids) do
    promote_left(B, id)
  end
  if not blocked then
    wake(B)
  end
  return #ids
end
