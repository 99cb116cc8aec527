--[[
  limit_rate: no job changes its state
  Stops all workers that know a rate limit from starting jobs for a time. A limit that is already
  reached is never shortened, because others may rely on it.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 how long (ms, at least 1)   2 how many jobs the caller's own limit allows in a window (empty: none)
  Returns how long (ms) the limit lasts from now
  Emits   nothing
  Uses    gate, rate
]]
local B, wait = KEYS[1], tonumber(ARGV[1])
local max = read_settings(B).max or tonumber(ARGV[2])
local used = counted_starts(redis.call('GET', B .. 'limiter'))
if used and (used >= tonumber(IMPOSED) or (max and used >= math.max(max, 1))) then
  wait = math.max(wait, redis.call('PTTL', B .. 'limiter'))
end
redis.call('SET', B .. 'limiter', IMPOSED, 'PX', wait)
return wait
