-- Putting an id where a state keeps its jobs. Scores: spec layout §7.

local SLOT = 4096
local PRIORITY_STEP = 4294967296

-- Adds `id` to `delayed`, after the jobs already due in the same millisecond.
local function place_delayed(B, id, due)
  local floor = due * SLOT
  local ceiling = floor + SLOT - 1
  local last = redis.call('ZREVRANGEBYSCORE', B .. 'delayed', ceiling, floor, 'WITHSCORES', 'LIMIT', 0, 1)
  local score = floor
  if last[2] then
    score = math.min(tonumber(last[2]) + 1, ceiling)
  end
  redis.call('ZADD', B .. 'delayed', score, id)
end

-- Adds `id` to `prioritized`, behind the jobs of the same priority. A counter that others have spoiled
-- starts anew: the job has left its old place, so this must not fail.
local function place_prioritized(B, id, priority)
  local count = redis.pcall('INCR', B .. 'pc')
  if type(count) ~= 'number' then
    count = 1
    redis.call('SET', B .. 'pc', count)
  end
  redis.call('ZADD', B .. 'prioritized', priority * PRIORITY_STEP + count % PRIORITY_STEP, id)
end

-- Adds `id` to `prioritized`, before the jobs of the same priority.
local function place_prioritized_first(B, id, priority)
  redis.call('ZADD', B .. 'prioritized', priority * PRIORITY_STEP, id)
end

-- Queues a job that may run now: `prioritized` if it has a priority, else the named end of
-- `wait` ('LPUSH': last to run, 'RPUSH': next to run).
local function place_ready(B, id, priority, push)
  if priority == 0 then
    redis.call(push, B .. 'wait', id)
  else
    place_prioritized(B, id, priority)
  end
end

-- Queues a job that goes back to be the next to run.
local function place_next(B, id, priority)
  if priority > 0 then
    place_prioritized_first(B, id, priority)
  else
    redis.call('RPUSH', B .. 'wait', id)
  end
end
