-- Starting a job that has been moved to `active` (docs/protocol.md#fetching).

-- Gives the job `id`, which has been started `ats` times (text; nil: never), its lock and counts the start, as ARGV of
-- advance says: now, lock token ('0': none) and its duration.
local function start_job(B, id, ats)
  local job_key = B .. id
  if ARGV[3] ~= '0' then
    redis.call('SET', job_key .. ':lock', ARGV[3], 'PX', ARGV[4])
  end
  redis.call('XADD', B .. 'events', '*', 'event', 'active', 'jobId', id, 'prev', 'waiting')
  -- Text where it can be: numbers cost the server a conversion.
  local starts = ats and (tonumber(ats) or 0) + 1 or '1'
  if options and options.name then
    redis.call('HSET', job_key, 'processedOn', ARGV[1], 'ats', starts, 'pb', options.name)
  else
    redis.call('HSET', job_key, 'processedOn', ARGV[1], 'ats', starts)
  end
end
