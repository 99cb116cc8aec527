--[[
  recover_stalled: active -> waiting | prioritized
  One stalled check, in bounded steps. Pass 1 hands back the jobs that were active at the last check and
  have no lock; pass 2 remembers what is active now. Both go through the active jobs from the newest to the
  oldest, and count from the oldest: jobs that start meanwhile move none of those that are left, and jobs that
  end move them only nearer. Checks are at least one interval apart per queue. A job that has stalled too
  often fails with its next start, before its handler.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 now (ms)   2 interval (ms)   3 stalls a job may have   4 continue: where to continue a
          check that this caller began, else 0
  Returns {recovered ids, ids without a job that were dropped, where to continue the check (0: it has
          ended; else the pass, and 2 for each active job that is left), ms until the next check is
          possible, those of the recovered that will fail: id, stalls, ...}
  Emits   waiting, stalled
  Uses    events, gate, marker, place, job, lists
]]
local B = KEYS[1]
local now, interval, tolerated = tonumber(ARGV[1]), ARGV[2], tonumber(ARGV[3])
local at = tonumber(ARGV[4])
local RECOVER_MAX = 60
local LOOK_MAX = 500

local settings = check_queue(B)
redis.call('SCARD', B .. 'stalled')
if at == 0 then
  if redis.call('EXISTS', B .. 'stalled-check') == 1 then
    return { {}, {}, 0, redis.call('PTTL', B .. 'stalled-check'), {} }
  end
  redis.call('SET', B .. 'stalled-check', now, 'PX', interval)
end

apply_event_cap(B, settings)
local recovered, dangling, failing, suspects = {}, {}, {}, {}
local active, stalled = B .. 'active', B .. 'stalled'
local size = redis.call('LLEN', active)
local pass, left = 1, size
if at > 0 then
  pass = 2 - at % 2
  left = math.min((at - pass) / 2, size)
end

if pass == 1 and left > 0 and redis.call('SCARD', stalled) > 0 then
  local rest = math.max(left - LOOK_MAX, 0)
  local ids, remembered, locks = redis.call('LRANGE', active, -left, -(rest + 1)), {}, {}
  for i, known in ipairs(redis.call('SMISMEMBER', stalled, unpack(ids))) do
    if known == 1 then
      remembered[#remembered + 1] = i
      locks[#locks + 1] = B .. ids[i] .. ':lock'
    end
  end
  locks = #locks > 0 and redis.call('MGET', unpack(locks)) or {}
  for k, i in ipairs(remembered) do
    if #suspects == RECOVER_MAX then
      rest = left - i + 1
      break
    elseif not locks[k] then
      suspects[#suspects + 1] = ids[i]
      redis.call('LSET', active, i - 1 - left, LEAVING)
    end
  end
  if #suspects > 0 then
    remove_near(active, #suspects, size - left, LEAVING)
    redis.call('SREM', stalled, unpack(suspects))
  end
  left = rest
elseif pass == 1 then
  left = 0
end
for _, id in ipairs(suspects) do
  local job_key = B .. id
  if not is_legacy_marker(id) then
    local job = redis.pcall('HMGET', job_key, 'ats', 'timestamp', 'priority', 'stc')
    if job[1] or job[2] then
      local stalls = number_or_zero(job[4]) + 1
      redis.call('HSET', job_key, 'stc', stalls)
      -- Iterations of schedulers too: the next one is added before the failure is applied.
      if stalls > tolerated then
        redis.call('HSET', job_key, 'defa', 'job stalled more than allowable limit')
        failing[#failing + 1] = id
        failing[#failing + 1] = stalls
      end
      place_next(B, id, number_or_zero(job[3]))
      wake_unless_blocked(B, settings)
      emit(B, 'waiting', 'jobId', id, 'prev', 'active')
      emit(B, 'stalled', 'jobId', id)
      recovered[#recovered + 1] = id
    else
      dangling[#dangling + 1] = id
    end
  end
end

if pass == 1 and left == 0 then
  redis.call('UNLINK', stalled)
  pass, left = 2, redis.call('LLEN', active)
end
if pass == 2 and left > 0 then
  local rest = math.max(left - LOOK_MAX, 0)
  redis.call('SADD', stalled, unpack(redis.call('LRANGE', active, -left, -(rest + 1))))
  left = rest
end
if pass == 1 or left > 0 then
  return { recovered, dangling, pass + 2 * left, 0, failing }
end
return { recovered, dangling, 0, tonumber(interval), failing }
