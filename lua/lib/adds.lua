-- The adds of a call of enqueue, any number of them, except the usual single ones that it stores itself.

local ADDED, DUPLICATE = 0, 1

-- Adds all jobs, one after the other. Returns the reply of enqueue.
local function add_all(B)
  local total, after = string.match(ARGV[1], '^(%d+):?(.*)$')
  local again = after ~= ''

  local queue = open_queue(B)
  -- Where each job begins; how it is deduplicated.
  local starts, dedup_of, dedups = {}, {}, nil
  local at = 1
  for i = 1, tonumber(total) do
    starts[i] = at
    local id = ARGV[at + 1]
    if ARGV[at + 6] == 'wait' then
      if id ~= '' and again then
        redis.call('HLEN', B .. id)
      end
      at = at + 6
    else
      local extra = ARGV[at + 9]
      check_place(B, ARGV[at + 8])
      if id ~= '' and (again or extra == 'parent') then
        redis.call('HLEN', B .. id)
      end
      at = at + 9
      if extra == 'parent' then
        redis.call('SCARD', ARGV[at + 1] .. ':dependencies')
        redis.call('HLEN', ARGV[at + 1] .. ':processed')
        at = at + 2
      elseif extra == 'dedup' then
        dedups = dedups or deduplication()
        dedup_of[i] = dedups.read(ARGV[at + 1])
        dedups.check(B, dedup_of[i])
        at = at + 1
      end
    end
  end
  if dedups then
    dedups.check_states(B)
  end
  local history = {}
  if again then
    for i = at + 1, #ARGV, 4 do
      local kind, other = ARGV[i + 1], ARGV[i + 2]
      history[ARGV[i]] = kind == 'added' and {} or { [kind] = other, dedup = ARGV[i + 3] }
    end
    if not read_history(B, after, history) then
      return {}
    end
  end

  -- Whether an existing job, which has not completed, would wait for itself below this parent.
  local way
  local function closes_circle(job_key, parent_key)
    local circles = ancestry()
    local next_way = circles.new_ascent({ [job_key] = parent_key })
    next_way.left = way and way.left or next_way.left
    way = next_way
    return circles.waits_for_itself(way, job_key)
      and not redis.call('ZSCORE', B .. 'completed', string.sub(job_key, #B + 1))
  end

  -- Finds what an earlier call did about a job with an id of its own: code, id and another id; nothing
  -- when the job is still to be added.
  local function find_earlier(at, id, parent_key, dedup)
    local job_key = B .. id
    local exists = redis.call('EXISTS', job_key) == 1
    local past = history[id]
    if past and dedup and (not past.dedup or past.dedup == dedup.id) then
      if past.replaced then
        return REPLACED, id, past.replaced
      elseif not past.owner then
        return ADDED, id
      elseif dedup.keep_last and (exists or redis.call('HGET', B .. 'dn:' .. dedup.id, 'jid') == id) then
        return KEPT_LAST, past.owner, id
      end
      return DEDUPLICATED, past.owner
    end
    if not exists then
      -- The events report that it was added: it has been removed since, and must not run again.
      if past and not dedup and not past.dedup then
        return ADDED, id
      end
      return nil
    end
    if again or parent_key then
      local known = redis.call('HMGET', job_key, 'parentKey', 'timestamp', 'name', 'data')
      local old = known[1]
      if again and known[2] == ARGV[at + 5] and known[3] == ARGV[at + 2] and known[4] == ARGV[at + 3] then
        return ADDED, id
      elseif parent_key and old and old ~= '' and old ~= parent_key and redis.call('EXISTS', old) == 1 then
        return PARENT_CONFLICT, id
      elseif parent_key and closes_circle(job_key, parent_key) then
        return WAITS_FOR_ITSELF, id
      end
    end
    return DUPLICATE, id
  end

  -- Adds one job. Returns its code, id and another id.
  local function add(at, dedup)
    local id = ARGV[at + 1]
    local plain = ARGV[at + 6] == 'wait'
    local parent_key = not plain and ARGV[at + 9] == 'parent' and ARGV[at + 10]
    if parent_key and redis.call('EXISTS', parent_key) == 0 then
      return PARENT_MISSING, id
    end
    local number = next_number(queue)
    if id == '' then
      id = string.format('%.0f', number)
    else
      local code, known, other = find_earlier(at, id, parent_key, dedup)
      if code then
        if code == DUPLICATE then
          if parent_key and attach(queue, id, parent_key, ARGV[at + 11]) then
            local parent = find_parent(ARGV[at + 11], parent_key)
            if parent then
              release_if_free(parent, tonumber(ARGV[at + 5]))
            end
          end
          emit(B, 'duplicated', 'jobId', id)
        end
        return code, known, other
      end
    end
    local code, other
    if dedup then
      code, other = dedups.apply(B, dedup, { id = id, name = ARGV[at + 2], data = ARGV[at + 3], opts = ARGV[at + 4],
        timestamp = ARGV[at + 5], delay = ARGV[at + 6] })
      if code == KEPT_LAST then
        return KEPT_LAST, other, id
      elseif code == DEDUPLICATED then
        return DEDUPLICATED, other
      end
    end
    if plain then
      redis.call('HSET', B .. id, 'name', ARGV[at + 2], 'data', ARGV[at + 3], 'opts', ARGV[at + 4], 'timestamp',
        ARGV[at + 5], 'delay', '0', 'priority', '0')
      redis.call('XADD', queue.events, '*', 'event', 'added', 'jobId', id, 'name', ARGV[at + 2])
      redis.call('XADD', queue.events, '*', 'event', 'waiting', 'jobId', id)
      queue.fifo[#queue.fifo + 1], queue.woken = id, true
      return ADDED, id
    end
    write_job(queue, at, id, dedup and dedup.id)
    queue_new(queue, at, id)
    join_parent(queue, at, id)
    return code or ADDED, id, other
  end

  local reply = {}
  for i = 1, #starts do
    local code, id, other = add(starts[i], dedup_of[i])
    local n = #reply
    reply[n + 1], reply[n + 2] = code, id
    if code == REPLACED or code == KEPT_LAST then
      reply[n + 3] = other
    end
  end
  if queue.counter then
    close_queue(queue)
  end
  return reply
end
