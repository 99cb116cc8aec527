-- Storing new jobs and queueing them (docs/protocol.md#adding-jobs). A job is named by the place `at` of its arguments:
-- ARGV[at + 1] is its id, and what follows is in the header of enqueue.

-- Starts to add to a queue. Reads one value of each key that every add writes: a key of the wrong type
-- fails here, before the first write.
local function open_queue(B)
  local settings = read_settings(B)
  redis.call('XLEN', B .. 'events')
  redis.call('LLEN', B .. 'wait')
  redis.call('ZCARD', B .. 'marker')
  local blocked = is_blocked(B, settings)
  return { base = B, events = B .. 'events', settings = settings, blocked = blocked, fifo = {}, more = 0 }
end

-- As above: the key that queueing a job at `place` writes besides.
local function check_place(B, place)
  if place == 'delayed' then
    redis.call('ZCARD', B .. 'delayed')
  elseif place == 'prioritized' then
    redis.call('ZCARD', B .. 'prioritized')
  elseif place == 'children' then
    redis.call('ZCARD', B .. 'waiting-children')
  end
end

-- Returns the number of the queue's next job. The first one is taken before any other write, so that an unusable
-- counter fails the call; how many more were used is written at the end.
local function next_number(q)
  if q.counter then
    q.more = q.more + 1
    return q.counter + q.more
  end
  q.counter = redis.call('INCR', q.base .. 'id')
  return q.counter
end

-- Whether a job has failed, and this parent has gone on without it.
local function has_failed_for(q, id, parent_key)
  local job_key = q.base .. id
  if not redis.call('ZSCORE', q.base .. 'failed', id) then
    return false
  end
  local job = redis.call('HMGET', job_key, 'parentKey', 'parent')
  return job[1] == parent_key
    and ((decode_link(job[2]) or {}).rdof == true
      or redis.pcall('HEXISTS', parent_key .. ':failed', job_key) == 1
      or type(redis.pcall('ZSCORE', parent_key .. ':unsuccessful', job_key)) == 'string')
    and redis.call('SISMEMBER', parent_key .. ':dependencies', job_key) == 0
end

-- An existing job joins the parent that the new add names, which does not wait again for a failure that it has gone on
-- without. Returns whether the job has completed, so that the parent does not wait for it.
local function attach(q, id, parent_key, parent_link)
  local job_key = q.base .. id
  local value = redis.call('ZSCORE', q.base .. 'completed', id) and redis.call('HGET', job_key, 'returnvalue')
  if value then
    redis.call('HSET', parent_key .. ':processed', job_key, value)
  elseif not has_failed_for(q, id, parent_key) then
    redis.call('SADD', parent_key .. ':dependencies', job_key)
  end
  redis.call('HSET', job_key, 'parentKey', parent_key, 'parent', parent_link)
  return value
end

-- Writes the hash of a new job, with its deduplication id.
local function write_job(q, at, id, dedup_id)
  local job_key = q.base .. id
  local name, data, opts, timestamp = ARGV[at + 2], ARGV[at + 3], ARGV[at + 4], ARGV[at + 5]
  local delay, priority = ARGV[at + 6], ARGV[at + 7]
  if ARGV[at + 9] == 'parent' then
    redis.call('HSET', job_key, 'name', name, 'data', data, 'opts', opts, 'timestamp', timestamp,
      'delay', delay, 'priority', priority, 'parentKey', ARGV[at + 10], 'parent', ARGV[at + 11])
  elseif dedup_id then
    redis.call('HSET', job_key, 'name', name, 'data', data, 'opts', opts, 'timestamp', timestamp,
      'delay', delay, 'priority', priority, 'deid', dedup_id)
  else
    redis.call('HSET', job_key, 'name', name, 'data', data, 'opts', opts, 'timestamp', timestamp,
      'delay', delay, 'priority', priority)
  end
end

-- Announces a job whose hash is written, and queues it.
local function queue_new(q, at, id)
  local B, timestamp, place = q.base, ARGV[at + 5], ARGV[at + 8]
  redis.call('XADD', q.events, '*', 'event', 'added', 'jobId', id, 'name', ARGV[at + 2])
  if place == 'delayed' then
    local due = tonumber(timestamp) + tonumber(ARGV[at + 6])
    place_delayed(B, id, due)
    q.announced = true
    emit(B, 'delayed', 'jobId', id, 'delay', due)
  elseif place == 'children' then
    redis.call('ZADD', B .. 'waiting-children', timestamp, id)
    emit(B, 'waiting-children', 'jobId', id)
  else
    if place == 'wait' then
      q.fifo[#q.fifo + 1] = id
    elseif place == 'next' then
      redis.call('RPUSH', B .. 'wait', id)
    else
      place_prioritized(B, id, tonumber(ARGV[at + 7]))
    end
    q.woken = true
    redis.call('XADD', q.events, '*', 'event', 'waiting', 'jobId', id)
  end
end

-- Makes the parent, if there is one, wait for a new job.
local function join_parent(q, at, id)
  if ARGV[at + 9] == 'parent' then
    redis.call('SADD', ARGV[at + 10] .. ':dependencies', q.base .. id)
  end
end

-- Ends adding to a queue: writes what was collected, and wakes workers.
local function close_queue(q)
  local B = q.base
  if q.more > 0 then
    redis.call('INCRBY', B .. 'id', q.more)
  end
  -- Newest first: the first job added stays nearest to the end that is fetched from.
  if #q.fifo > 0 then
    redis.call('LPUSH', B .. 'wait', unpack(q.fifo))
  end
  if q.woken and not q.blocked then
    wake(B)
  end
  if q.announced then
    announce_due(B)
  end
  apply_event_cap(B, q.settings)
end
