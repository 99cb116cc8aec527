--[[
  next_repeatable: new -> waiting | prioritized | delayed
  Adds the job that follows one just activated of a repeatable job of BullMQ 4, as BullMQ 5 does. Only
  the key of such a schedule and its newest occurrence are stored: everything else is in its jobs.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 key: the member of the `repeat` set   2 id of the activated job   3 its occurrence (ms)
          4 now (ms)   5 id of the next job (empty: add none)   6 its occurrence (ms)   7 when it is due
          (ms)   8 opts (JSON, without jobId, delay and prevMillis)   9 priority
          10 lifo: 1 or 0   11 deduplication id (empty: none)
  Returns {outcome, id}
          outcome: made (id) | none: there is a later job already | ended: none was to be added
          | duplicate: a job with that id (id) exists and will not run | unknown: no such key
  Emits   added, then waiting or delayed; duplicated
  Uses    events, gate, marker, place, scheduler
]]
local B, key, activated, own, now = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local id, occurrence = ARGV[5], tonumber(ARGV[6])

check_iteration_keys(B)
local last = tonumber(redis.call('ZSCORE', B .. 'repeat', key))
if not last then
  return { 'unknown', '' }
end
-- Version 5 adds a job with every activation and sets the occurrence to that job's, which may be earlier
-- than it was: then the activated job counts as the newest.
if last > own then
  return { 'none', '' }
end
local job = redis.call('HMGET', B .. activated, 'name', 'data')
if id == '' then
  return { 'ended', '' }
end
redis.call('ZADD', B .. 'repeat', whole(occurrence), key)
if redis.call('EXISTS', B .. id) == 1 then
  emit(B, 'duplicated', 'jobId', id)
  return { iteration_state(B, id) == 'live' and 'none' or 'duplicate', id }
end
add_iteration(B, key, {
  occurrence = occurrence,
  id = id,
  due = tonumber(ARGV[7]),
  name = job[1] or '',
  data = job[2] or '{}',
  options = read_options(8),
  pattern = true,
}, now)
return { 'made', id }
