-- Jobs finished per minute (docs/protocol.md#metrics).

-- Counts `n` jobs that finished at `now` into `kind` (completed or failed).
local function count_finished(B, kind, n, points, now)
  local key = B .. 'metrics:' .. kind
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
