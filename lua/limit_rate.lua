--[[
  limit_rate: no job changes its state
  Stops all workers that know a rate limit from starting jobs for a time. A limit that is reached
  already is never shortened: whoever asked for it relies on it.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 how long (ms, at least 1)   2 jobs in a window of the limit the caller knows (empty: none)
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
