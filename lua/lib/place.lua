-- Putting an id where a state keeps its jobs. Scores: docs/protocol.md#scores.

local SLOT = 4096
local PRIORITY_STEP = 4294967296
-- From here on not every whole number is a score.
local EXACT_MAX = 9007199254740992
local RENUMBER_MAX = 1000

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

-- Returns the score behind all jobs of a priority, for when the counter alone is not enough: it was reset
-- or passed 2^32, or the scores are so large that not every whole number is one. When the last number is
-- taken, up to RENUMBER_MAX jobs are renumbered; beyond that they share it.
local function behind_equals(B, floor, score, count)
  local key, step = B .. 'prioritized', 1
  while floor + step == floor and step < PRIORITY_STEP do
    step = step * 2
  end
  local ceiling = floor + PRIORITY_STEP - step
  local last = tonumber(redis.call('ZREVRANGEBYSCORE', key, ceiling, floor, 'WITHSCORES', 'LIMIT', 0, 1)[2])
  if not last or last < score then
    return score
  end
  if last < ceiling then
    return last + step
  end
  local exclusive = '(' .. string.format('%.17g', floor)
  -- In reverse order, because producers' ACL roles allow no other such command.
  local equals = redis.call('ZREVRANGEBYSCORE', key, ceiling, exclusive, 'LIMIT', 0, RENUMBER_MAX + 1)
  if #equals > RENUMBER_MAX or (#equals + 1) * step >= PRIORITY_STEP then
    return ceiling
  end
  local numbered = {}
  for i, member in ipairs(equals) do
    numbered[2 * i - 1], numbered[2 * i] = floor + (#equals - i + 1) * step, member
  end
  redis.call('ZADD', key, unpack(numbered))
  -- Jobs that others add next must come after them too.
  local own = #equals + 1
  if count % PRIORITY_STEP < own then
    redis.call('SET', B .. 'pc', count - count % PRIORITY_STEP + own)
  end
  return floor + own * step
end

-- Adds `id` to `prioritized`, behind the jobs of the same priority. count: what the counter of such adds is now; when it is
-- unusable (false), it is reset: the job has left its old place, so this must not fail.
local function place_counted(B, id, priority, count)
  if not count then
    count = 1
    redis.call('SET', B .. 'pc', count)
  end
  local floor = priority * PRIORITY_STEP
  local score = floor + count % PRIORITY_STEP
  if count == 1 or count >= PRIORITY_STEP or score >= EXACT_MAX then
    local behind = behind_equals(B, floor, score, count)
    if count == 1 and behind > score then
      redis.call('SET', B .. 'pc', behind - floor)
    end
    score = behind
  end
  redis.call('ZADD', B .. 'prioritized', score, id)
end

-- Counts a job, and adds it as above.
local function place_prioritized(B, id, priority)
  local count = redis.pcall('INCR', B .. 'pc')
  place_counted(B, id, priority, type(count) == 'number' and count)
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
