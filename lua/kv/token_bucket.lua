--[[
  token_bucket: takes tokens from a bucket that refills at a steady rate, if it has them
  The generic cell rate algorithm as a leaky bucket: the key holds how much is taken, in tokens times the
  period so that refilling is whole numbers, and the time of that level. Times never go backwards.
  KEYS    1 bucket
  ARGV    1 capacity   2 tokens refilled a period   3 period (ms)   4 cost   5 now (ms)
          6 how much longer than until it is full the key lives (ms)   7 peek: 1 to take nothing
  Returns {allowed (1 or 0), remaining, ms until the bucket is full, ms until the cost is there}
  Emits   nothing
  Uses    nothing
]]
local bucket = KEYS[1]
local refill, period = tonumber(ARGV[2]), tonumber(ARGV[3])
local full, need = tonumber(ARGV[1]) * period, tonumber(ARGV[4]) * period
local now = tonumber(ARGV[5])
local level, at = 0, now
local held = redis.call('GET', bucket)
if held then
  local taken, since = string.match(held, '^(%d+) (%d+)$')
  if not taken then
    return redis.error_reply('ERR the bucket is not an integer and a time')
  end
  level, at = tonumber(taken), tonumber(since)
  if level > 2 ^ 53 or at > 2 ^ 53 then
    return redis.error_reply('ERR the level or the time of the bucket is not an integer below 2^53')
  end
end
if now > at then
  level = math.max(level - (now - at) * refill, 0)
  at = now
end
local fits = level + need <= full
if fits and ARGV[7] ~= '1' then
  level = level + need
  local left = math.ceil(level / refill) + tonumber(ARGV[6])
  redis.call('SET', bucket, string.format('%.0f %.0f', level, at), 'PX', string.format('%.0f', left))
end
local behind = at - now
local wait = fits and 0 or math.ceil((level + need - full) / refill) + behind
local empty = level > 0 and math.ceil(level / refill) + behind or 0
return { fits and 1 or 0, math.max(math.floor((full - level) / period), 0), empty, wait }
