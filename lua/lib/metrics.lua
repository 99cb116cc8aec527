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

-- Counts jobs that have ended, as ARGV of advance says: all that completed or failed, among them those of `batch`,
-- which alone may have failed.
local function count_ended(B, ended, batch)
  local failed = 0
  for _, at in ipairs(batch and batch.ended or {}) do
    failed = failed + (ARGV[at] == 'fail' and 1 or 0)
  end
  for set, total in pairs({ completed = ended - failed, failed = failed }) do
    if total > 0 then
      count_finished(B .. 'metrics:' .. set, total, tonumber(ARGV[7]), tonumber(ARGV[1]))
    end
  end
end
