--[[
  recover_stalled: active -> waiting | prioritized
  One stalled check. Pass 1 hands back the jobs that were active at the last check and have no
  lock; pass 2 remembers what is active now. Checks are at least one interval apart per queue.
  A job that has stalled too often fails with its next start, before its handler.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 now (ms)   2 interval (ms)   3 stalls a job may have   4 continue: 1 to go on with a
          check that this caller began, else 0
  Returns {recovered ids, ids without a job that were dropped, 1 when the check is unfinished,
          ms until the next check is possible, those of the recovered that will fail: id, stalls, ...}
  Emits   waiting, stalled
  Uses    codes, events, gate, marker, place, job
]]
local B = KEYS[1]
local now, interval, tolerated = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local continued = ARGV[4] == '1'
local RECOVER_MAX = 200
local REMEMBER_CHUNK = 1000

redis.call('XLEN', B .. 'events')
redis.call('LLEN', B .. 'active')
redis.call('LLEN', B .. 'wait')
redis.call('ZCARD', B .. 'prioritized')
redis.call('ZCARD', B .. 'marker')
redis.call('SCARD', B .. 'stalled')
if not continued then
  if redis.call('EXISTS', B .. 'stalled-check') == 1 then
    return { {}, {}, 0, redis.call('PTTL', B .. 'stalled-check'), {} }
  end
  redis.call('SET', B .. 'stalled-check', now, 'PX', interval)
end

local settings = read_settings(B)
trim_events(B, event_cap(B, settings))
local recovered, ghosts, failing = {}, {}, {}
local suspects = redis.call('SPOP', B .. 'stalled', RECOVER_MAX)
for _, id in ipairs(suspects) do
  local job_key = B .. id
  if redis.call('EXISTS', job_key .. ':lock') == 0 and redis.call('LREM', B .. 'active', 1, id) == 1
    and not is_legacy_marker(id) then
    local job = redis.pcall('HMGET', job_key, 'ats', 'timestamp', 'priority', 'stc')
    if job[1] or job[2] then
      local stalls = number_or_zero(job[4]) + 1
      redis.call('HSET', job_key, 'stc', stalls)
      -- Iterations of schedulers too: the next one is made before a job's fate is looked at.
      if stalls > tolerated then
        redis.call('HSET', job_key, 'defa', 'job stalled more than allowable limit')
        failing[#failing + 1] = id
        failing[#failing + 1] = stalls
      end
      place_next(B, id, number_or_zero(job[3]))
      wake_if_open(B, settings)
      emit(B, 'waiting', 'jobId', id, 'prev', 'active')
      emit(B, 'stalled', 'jobId', id)
      recovered[#recovered + 1] = id
    else
      ghosts[#ghosts + 1] = id
    end
  end
end
if redis.call('SCARD', B .. 'stalled') > 0 then
  return { recovered, ghosts, 1, 0, failing }
end

local active = redis.call('LRANGE', B .. 'active', 0, -1)
for from = 1, #active, REMEMBER_CHUNK do
  redis.call('SADD', B .. 'stalled', unpack(active, from, math.min(from + REMEMBER_CHUNK - 1, #active)))
end
return { recovered, ghosts, 0, tonumber(interval), failing }
