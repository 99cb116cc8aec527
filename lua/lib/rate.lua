-- The rate limit's counter, `limiter` (docs/protocol.md#rate-limits): how many jobs have started in a window
-- that began with the first of them and ends with the key.

-- What the counter holds while a limit is imposed by hand: a count that every limit has reached.
local IMPOSED = '9007199254740991'
-- The longest window (ms); others set it too, and a number too large would fail a start midway.
local WINDOW_MAX = 4503599627370496

-- Reads a count; nil when there is none, or what is stored is not a count.
local function counted_starts(text)
  return text and string.match(text, '^%d+$') and tonumber(text) or nil
end

-- How many jobs may start now, or how long (ms) to wait. `text` is the counter as it is stored. One
-- that never expires is left over from a failed start: the next start opens a new window.
local function within_rate(B, max, text)
  local used = counted_starts(text)
  max = math.max(max, 1)
  if used and used < max then
    return math.ceil(max - used), 0
  end
  local left = used and redis.call('PTTL', B .. 'limiter') or 0
  if left > 0 then
    return 0, left
  end
  if text then
    redis.call('DEL', B .. 'limiter')
  end
  return math.ceil(max), 0
end

-- Counts starts; the first ones of a window begin it.
local function count_starts(B, starts, window)
  if starts > 0 and redis.call('INCRBY', B .. 'limiter', starts) == starts then
    redis.call('PEXPIRE', B .. 'limiter', math.min(math.max(1, math.floor(math.abs(window))), WINDOW_MAX))
  end
end
