-- Taking jobs to start: from the tail of `wait`, then by priority, into `active` (docs/protocol.md#fetching).

-- How many ids without a job one call drops.
local DROP_MAX = 500

-- How many bytes of job hashes one call takes before it stops: several calls then share what one would hold up the
-- server for.
local TAKE_BYTES = 1048576

-- Reads up to `want` startable jobs and moves their ids to `active`. Legacy signals and ids
-- without a job are dropped on the way. Stops early once TAKE_BYTES of data are taken, or very many
-- ids dropped. Returns the ids, their hashes as flat arrays, how often they have been started, how many of the starts
-- count against a rate limit, how many dangling ids were dropped, and whether it stopped early (full).
local function take_ready(B, want)
  local ids, hashes, starts, counted, dangling, bytes, looked = {}, {}, {}, 0, 0, 0, 0

  local function consider(id)
    looked = looked + 1
    if is_legacy_marker(id) then
      return
    end
    local hash = redis.pcall('HGETALL', B .. id)
    if hash.err or #hash == 0 then
      dangling = dangling + 1
      return
    end
    local ats, deferred = nil, false
    for f = 1, #hash, 2 do
      local name, value = hash[f], hash[f + 1]
      bytes = bytes + #value
      if name == 'ats' then
        ats = value
      elseif name == 'defa' then
        deferred = true
      end
    end
    local n = #ids + 1
    ids[n], hashes[n], starts[n] = id, hash, ats or false
    if not deferred then
      counted = counted + 1
    end
  end

  while #ids < want and bytes < TAKE_BYTES and looked < want + DROP_MAX do
    local tail = redis.call('LRANGE', B .. 'wait', #ids - want, '-1')
    if #tail == 0 then
      break
    end
    local used = 0
    for i = #tail, 1, -1 do
      consider(tail[i])
      used = used + 1
      if bytes >= TAKE_BYTES then
        break
      end
    end
    redis.call('LTRIM', B .. 'wait', '0', -(used + 1))
  end
  while #ids < want and bytes < TAKE_BYTES and looked < want + DROP_MAX do
    local lowest = redis.pcall('ZRANGE', B .. 'prioritized', '0', want - #ids - 1)
    if lowest.err or #lowest == 0 then
      break
    end
    local used = {}
    for i = 1, #lowest do
      consider(lowest[i])
      used[i] = lowest[i]
      if bytes >= TAKE_BYTES then
        break
      end
    end
    redis.call('ZREM', B .. 'prioritized', unpack(used))
  end
  if #ids > 0 then
    redis.call('LPUSH', B .. 'active', unpack(ids))
  end
  local full = bytes >= TAKE_BYTES or looked >= want + DROP_MAX
  return { ids = ids, hashes = hashes, starts = starts, counted = counted, dangling = dangling, full = full }
end

-- Reads what holds starts back, and a value of each key that they write: a key of the wrong type fails here, before the
-- first write. meta: paused, concurrency and max of the queue's settings.
local function read_limits(B, meta)
  check_places(B)
  local concurrency, max, window = tonumber(meta[2] or ''), tonumber(meta[3] or ''), nil
  -- The global limit's number counts before the worker's, the worker's window before the global one.
  -- Without any window nothing can be counted, because the count would never expire.
  if max then
    window = tonumber(redis.call('HGET', B .. 'meta', 'duration') or '')
  end
  if options and options.max then
    max, window = max or options.max, options.window or window
  end
  local limits = { paused = meta[1] and true or false, concurrency = concurrency, max = max, window = window }
  limits.counter = max and redis.call('GET', B .. 'limiter')
  limits.was_full = concurrency and is_blocked(B, limits)
  return limits
end

-- Starts up to `want` jobs, due ones included. Puts the first three values and the jobs into advance's reply. Returns
-- how many were started.
local function start_jobs(B, want, limits, reply)
  want = tonumber(want)
  local promoted = promote_due(B, limits, tonumber(ARGV[1]))
  local allowed, wait = want, 0
  if limits.max then
    allowed, wait = within_rate(B, limits.max, limits.counter)
  end
  if limits.concurrency then
    allowed = math.min(allowed, math.ceil(limits.concurrency - redis.call('LLEN', B .. 'active')))
  end
  if wait > 0 then
    reply[1], reply[2] = 'limited', wait
    return 0
  elseif limits.paused or allowed <= 0 then
    reply[1] = 'blocked'
    return 0
  end
  local most = math.min(want, allowed)
  local taken = take_ready(B, most)
  local ids = taken.ids
  for i, id in ipairs(ids) do
    start_job(B, id, taken.starts[i])
    local n = #reply
    reply[n + 1], reply[n + 2] = id, taken.hashes[i]
  end
  if #ids > 0 then
    wake(B)
    if limits.max and limits.window then
      count_starts(B, taken.counted, limits.window)
    end
  elseif redis.call('ZCARD', B .. 'prioritized') == 0 then
    redis.call('DEL', B .. 'pc')
  end
  reply[3] = taken.dangling
  local due
  if taken.full or #ids >= most or promoted == PROMOTE_MAX then
    reply[1] = 'more'
  else
    due = next_due(B)
    reply[1], reply[2] = due and 'at' or 'empty', due and math.floor(due) or 0
  end
  return #ids
end

-- Wakes others for what a call leaves that starts nothing. delayed: whether it has delayed a job.
local function wake_others(B, limits, delayed)
  if delayed then
    announce_due(B)
  end
  -- A full queue may have room again, and idle workers were not woken while it was full.
  if limits and limits.was_full and has_ready(B) then
    wake_unless_blocked(B, limits)
  end
end
