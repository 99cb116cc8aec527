-- Starting jobs: from the tail of `wait`, then by priority, into `active` (docs/protocol.md#fetching).

-- How many ids without a job one call drops.
local DROP_MAX = 500

-- Reads up to `want` startable jobs and takes their ids off their queue. Legacy signals and ids
-- without a job are dropped on the way. Stops early once `budget` bytes of data are taken, or very many
-- ids dropped. Returns the ids, their hashes as flat arrays, how many dangling ids were dropped, and whether
-- it stopped early (full).
local function pop_ready(B, want, budget)
  local ids, hashes, dangling, bytes = {}, {}, 0, 0
  local looked = 0

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
    ids[#ids + 1] = id
    hashes[#hashes + 1] = hash
    for f = 2, #hash, 2 do
      bytes = bytes + #hash[f]
    end
  end

  while #ids < want and bytes < budget and looked < want + DROP_MAX do
    local tail = redis.call('LRANGE', B .. 'wait', #ids - want, '-1')
    if #tail == 0 then
      break
    end
    local used = 0
    for i = #tail, 1, -1 do
      consider(tail[i])
      used = used + 1
      if bytes >= budget then
        break
      end
    end
    if used == 1 then
      redis.call('RPOP', B .. 'wait')
    else
      redis.call('LTRIM', B .. 'wait', '0', -(used + 1))
    end
  end
  while #ids < want and bytes < budget and looked < want + DROP_MAX do
    local lowest = redis.call('ZRANGE', B .. 'prioritized', '0', want - #ids - 1)
    if #lowest == 0 then
      break
    end
    local used = {}
    for i = 1, #lowest do
      consider(lowest[i])
      used[i] = lowest[i]
      if bytes >= budget then
        break
      end
    end
    redis.call('ZREM', B .. 'prioritized', unpack(used))
  end
  local full = bytes >= budget or looked >= want + DROP_MAX
  return { ids = ids, hashes = hashes, dangling = dangling, full = full }
end

-- Returns the value of one field of a flat hash, or nil.
local function field_of(hash, name)
  for f = 1, #hash, 2 do
    if hash[f] == name then
      return hash[f + 1]
    end
  end
  return nil
end

-- Makes the jobs of `pop_ready` active. lock: token ('0': none), duration (ms), worker (its name; may be
-- empty); `now` is text. Returns how many of the starts count against a rate limit.
local function activate(B, taken, lock, now)
  local counted, token, worker = 0, lock.token, lock.worker
  for i, id in ipairs(taken.ids) do
    local job_key, hash = B .. id, taken.hashes[i]
    if token ~= '0' then
      redis.call('SET', job_key .. ':lock', token, 'PX', lock.duration)
    end
    emit(B, 'active', 'jobId', id, 'prev', 'waiting')
    local starts = count_up(field_of(hash, 'ats'))
    if worker == '' then
      redis.call('HSET', job_key, 'processedOn', now, 'ats', starts)
    else
      redis.call('HSET', job_key, 'processedOn', now, 'ats', starts, 'pb', worker)
    end
    if not field_of(hash, 'defa') then
      counted = counted + 1
    end
  end
  redis.call('LPUSH', B .. 'active', unpack(taken.ids))
  wake(B)
  return counted
end
