--[[
  add_log: no change of state
  Appends one row to a job's log.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 id   2 row   3 how many of the newest rows to keep (0: all)
  Returns the number of rows kept, or a refusal: JOB_MISSING
  Emits   nothing
  Uses    codes
]]
local job_key, keep = KEYS[1] .. ARGV[1], tonumber(ARGV[3])
if redis.call('EXISTS', job_key) == 0 then
  return JOB_MISSING
end
local rows = redis.call('RPUSH', job_key .. ':logs', ARGV[2])
if keep > 0 and rows > keep then
  redis.call('LTRIM', job_key .. ':logs', -keep, -1)
  return keep
end
return rows
