-- The results of a call of advance, any number of them: which jobs they concern, and their ends. The usual ones, of jobs
-- that complete and concern no other, are stored here, the others by `finish`.

-- How many entries of the list of active jobs one call skips to find those of its results.
local SEARCHED_MAX = 200000

-- Where the results begin in ARGV of advance.
local FIRST = 7

-- Reads the jobs of `total` results of `width` arguments each: their keys, hashes, locks, and whether their ends are usual.
-- A key of the wrong type fails here, before the first write.
local function read_jobs(B, total, width)
  -- How many results may be looked for in that list.
  local most = total > 1 and math.floor(SEARCHED_MAX / (redis.call('LLEN', B .. 'active') + 1)) or 1
  local keys, lock_keys, hashes, child_keys, usual = {}, {}, {}, {}, true
  for i = 1, total do
    local at = FIRST + width * (i - 1)
    local key = B .. ARGV[at + 1]
    keys[i], lock_keys[i] = key, key .. ':lock'
    child_keys[2 * i - 1], child_keys[2 * i] = key .. ':dependencies', key .. ':unsuccessful'
    hashes[i] = (i == 1 or i <= most) and redis.call('HMGET', key, 'ats', 'atm', 'parent', 'parentKey', 'deid')
    usual = usual and ARGV[at] == 'complete'
  end
  local locks = redis.call('MGET', unpack(lock_keys))
  usual = redis.call('EXISTS', unpack(child_keys)) == 0 and usual
  redis.call('ZCARD', B .. 'completed')
  redis.call('ZCARD', B .. 'failed')
  if not usual then
    finish().check_keys(B, child_keys)
  end
  -- Who holds a lock is alive. This is the first write to a place of jobs, and takes nothing from any.
  local alive = {}
  for i = 1, total do
    local at = FIRST + width * (i - 1)
    if locks[i] == ARGV[at + 2] then
      alive[#alive + 1] = ARGV[at + 1]
    end
  end
  if #alive > 0 then
    redis.call('SREM', B .. 'stalled', unpack(alive))
  end
  return { keys = keys, lock_keys = lock_keys, hashes = hashes, locks = locks, usual = usual }
end

-- Ends all attempts, and puts the codes and the rules with work left into advance's reply. Returns how many jobs may
-- still be started, how many ended for good, and whether one was delayed.
local function end_all(B, reply)
  local want, total, now = tonumber(ARGV[2]), tonumber(ARGV[6]), ARGV[1]
  local width = (#ARGV - FIRST + 1) / total
  local jobs = read_jobs(B, total, width)
  local keys, hashes, locks, usual = jobs.keys, jobs.hashes, jobs.locks, jobs.usual
  -- Locks to delete; scores and ids to add; rules of retention to apply, and which results report their end after that.
  local batch, ended, freed_locks, completed, rules, late = nil, 0, {}, {}, {}, {}
  for i = 1, total do
    local at, code, hash = FIRST + width * (i - 1), 0, hashes[i]
    local id, value, keep = ARGV[at + 1], ARGV[at + 3], ARGV[at + 4]
    -- The job concerns no other, and completes under its lock.
    if usual and hash and hash[1] and not (hash[3] or hash[4] or hash[5]) and locks[i] == ARGV[at + 2]
      and redis.call('LREM', B .. 'active', '-1', id) == 1 then
      ended = ended + 1
      freed_locks[#freed_locks + 1] = jobs.lock_keys[i]
      if keep == '0' then
        delete_job_keys(keys[i])
      else
        local added = #completed
        completed[added + 1], completed[added + 2] = now, id
        -- Text where it can be: numbers cost the server a conversion.
        local made = hash[2] and (tonumber(hash[2]) or 0) + 1 or '1'
        redis.call('HSET', keys[i], 'returnvalue', value, 'finishedOn', now, 'atm', made)
      end
      if keep == '' or keep == '0' then
        redis.call('XADD', B .. 'events', '*', 'event', 'completed', 'jobId', id, 'returnvalue', value, 'prev', 'active')
      else
        rules['completed:' .. keep] = true
        late[#late + 1] = at
      end
    else
      batch = batch or {
        B = B, now = tonumber(now), keys = keys, locks = locks, hashes = hashes, ended = {},
        freed_locks = freed_locks, completed = completed, failed = {}, rules = rules,
      }
      code = finish().finish_one(batch, i, at)
      if (code < 0 or code == 3) and want > 0 then
        want = want - 1
      end
    end
    reply[i + 4] = code
  end

  if #freed_locks > 0 then
    redis.call('DEL', unpack(freed_locks))
  end
  if #completed > 0 then
    redis.call('ZADD', B .. 'completed', unpack(completed))
  end
  if batch and #batch.failed > 0 then
    redis.call('ZADD', B .. 'failed', unpack(batch.failed))
  end
  if next(rules) then
    retention().apply_rules(B, rules, reply)
  end
  for _, at in ipairs(late) do
    emit(B, 'completed', 'jobId', ARGV[at + 1], 'returnvalue', ARGV[at + 3], 'prev', 'active')
  end
  local failed = 0
  if batch then
    finish().emit_ended(batch)
    ended, failed = ended + #batch.ended, #batch.failed / 2
  end
  if options and options.points then
    minutes().count_ended(B, ended - failed, failed)
  end
  return tostring(want), ended, batch and batch.delayed
end
