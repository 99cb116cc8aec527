--[[
  enqueue: new -> waiting | prioritized | delayed | waiting-children
  Stores 1 to N jobs, one after the other, and queues each where its options say. A job that is
  refused, exists already or is deduplicated does not affect the others.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 after: when this very call may have been executed before, the id of the event up to which the
            caller has read the stream; else empty
          2 number of jobs, then per job:
            id (empty: generate)   name   data (JSON)   opts (JSON)   timestamp (ms)   delay (ms)
            priority   place (wait, next, prioritized, delayed or children)
            extra: empty, or one of
              parent, then: parent key   parent link (JSON)
              dedup, then: <modes>:<ttl in ms>:<deduplication id>, with the modes e (extend),
              r (replace), s (reschedule), k (keep last if active)
          and, with `after`, per job that the events up to it report:
            id   added, replaced or owner   the other id   deduplication id
  Returns {} when more events came after `after` than one call reads: nothing has changed. Else per job
          its code and id, and with the codes 3 and 4 another id:
          0 added, now or by the earlier execution: the job
          1 an existing id, nothing stored: the job
          2 deduplicated, nothing stored: the owner of the deduplication id
          3 added in place of a delayed job: the job, the job deleted
          4 kept as the last add to run after an active job: that job, the id it will have
          or a refusal: PARENT_MISSING, PARENT_CONFLICT, WAITS_FOR_ITSELF
  Emits   added, then waiting, delayed or waiting-children; duplicated for an existing id;
          deduplicated, then delayed for an owner that is rescheduled; removed and deduplicated
          before the added of a job that replaces another; waiting or delayed, for a parent that is
          released
  Uses    codes, events, gate, marker, place, job, parent, insert, dedup, dedup_add, replay; rarely ancestors
]]
local B = KEYS[1]
local after = ARGV[1]
local again = after ~= ''
local total = tonumber(ARGV[2])
local ADDED, DUPLICATE = 0, 1

local queue = open_queue(B)
local starts, dedup_of, dedups = {}, {}, nil
local at = 2
for i = 1, total do
  starts[i] = at
  local id, extra = ARGV[at + 1], ARGV[at + 9]
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
  local parent_key = ARGV[at + 9] == 'parent' and ARGV[at + 10]
  if parent_key and redis.call('EXISTS', parent_key) == 0 then
    return PARENT_MISSING, id
  end
  local number = next_number(queue)
  if id == '' then
    id = tostring(number)
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
  write_job(queue, at, id, dedup and dedup.id)
  queue_new(queue, at, id)
  join_parent(queue, at, id)
  return code or ADDED, id, other
end

local reply = {}
for i = 1, total do
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
