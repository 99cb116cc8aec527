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

-- Counts the jobs that `ended` lists, each with its set.
local function count_ended(B, ended, points, now)
  local totals = { completed = 0, failed = 0 }
  for _, job in ipairs(ended) do
    totals[job.set] = totals[job.set] + 1
  end
  for set, total in pairs(totals) do
    if total > 0 then
      count_finished(B .. 'metrics:' .. set, total, points, now)
    end
  end
end
