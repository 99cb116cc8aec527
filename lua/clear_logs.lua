--[[
  clear_logs: no change of state
  Deletes the oldest rows of a job's log, in bounded steps.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 id   2 how many of the newest rows to keep
  Returns 1 when more rows are to be deleted, else 0
  Emits   nothing
  Uses    nothing
]]
local key, keep = KEYS[1] .. ARGV[1] .. ':logs', tonumber(ARGV[2])
local ROWS_MAX = 1000
if keep == 0 then
  redis.call('UNLINK', key)
  return 0
end
local excess = redis.call('LLEN', key) - keep
if excess > 0 then
  redis.call('LTRIM', key, math.min(excess, ROWS_MAX), -1)
end
return excess > ROWS_MAX and 1 or 0
