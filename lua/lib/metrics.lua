-- Jobs finished per minute (docs/protocol.md#metrics).

-- Counts `n` jobs that finished at `now`. `key` is the metrics' hash; its list keeps `points` minutes.
local function count_finished(key, n, points, now)
  local count = redis.call('HINCRBY', key, 'count', n) - n
  local seen = redis.call('HMGET', key, 'prevTS', 'prevCount')
  if not seen[1] then
    redis.call('HSET', key, 'prevTS', now, 'prevCount', 0)
    return
  end
  local minutes = math.min(math.floor(now / 60000) - math.floor(number_or_zero(seen[1]) / 60000), points)
  if minutes <= 0 then
    return
  end
  local data = key .. ':data'
  redis.call('LPUSH', data, count - number_or_zero(seen[2]))
  for _ = 2, minutes do
    redis.call('LPUSH', data, 0)
  end
  redis.call('LTRIM', data, 0, points - 1)
  redis.call('HSET', key, 'prevCount', count, 'prevTS', now)
end

-- Counts jobs that have ended, as the options of advance say. Numbers that others have spoiled must not fail results
-- that are stored.
local function count_ended(B, completed, failed)
  for set, total in pairs({ completed = completed, failed = failed }) do
    if total > 0 then
      pcall(count_finished, B .. 'metrics:' .. set, total, options.points, tonumber(ARGV[1]))
    end
  end
end
