--[[
  add_flow: new -> waiting | prioritized | delayed | waiting-children; waiting-children -> waiting | prioritized |
            delayed
  Adds jobs together with their children, over any number of queues: a small flow in one call, a large
  one in steps. While those are made, new jobs without children are held: they are stored with the field `hold`,
  their parents wait for them, and they are in no state until the whole flow is stored.
  KEYS    1 base: the key prefix, with its trailing colon, of the first job's queue
  ARGV    1 step:
            whole   adds all jobs, or none
            check   changes nothing; refuses what `whole` would refuse
            store   stores the jobs that do not exist, and holds those without children
            place   queues held jobs and lets existing ones join their parents; none of them keeps the others
                    from it
          2 again: 1 when this very call may have been executed before, else 0
          3 now (ms)
          4 number of queues, then per queue:
            base   after: with `again` and `whole` the id of the event up to which the caller has read the
            stream, else empty
          then the number of jobs, parents before their children, then per job:
            queue (a number from 1)
            marks: root when the job has no parent in the flow, unique when its id was made for this call,
            held when `store` has stored it; else empty
            id   name ... extra: as in enqueue, without deduplication; data and opts may be empty for `check`
            and for held jobs
          then the number of parents to release if nothing keeps them waiting, then per parent:
            base   id
          then, with `again`, the keys of jobs that the events report as added
  Returns {} when more events came after an `after` than one call reads: nothing has changed. Else
          for `whole` and `check`, when a job is refused:
            PARENT_MISSING, PARENT_CONFLICT or WAITS_FOR_ITSELF, number of the job (from 1)
          and otherwise, not for `check`, per job:
            0 stored, now or by an earlier execution, and not queued if it is held
            1 an existing job
            one of these refusals: nothing was changed for it
  Emits   added, then waiting, delayed or waiting-children; duplicated for an existing id; waiting or delayed for
          a parent that is released
  Uses    codes, events, gate, marker, place, job, parent, insert, replay; rarely ancestors
]]
local step, again, now = ARGV[1], ARGV[2] == '1', tonumber(ARGV[3])
local ADDED, DUPLICATE = 0, 1

local at = 4
local queues = {}
for i = 1, tonumber(ARGV[4]) do
  queues[i] = open_queue(ARGV[at + 1])
  queues[i].after = ARGV[at + 2]
  at = at + 2
end

-- Whether parents exist, or are added before their children, by key.
local exists_of = {}
local function parent_exists(parent_key)
  if exists_of[parent_key] == nil then
    exists_of[parent_key] = redis.call('EXISTS', parent_key) == 1
  end
  return exists_of[parent_key]
end

-- Reads one value of each key of a parent that adding a child writes.
local checked = {}
local function check_parent(parent_key)
  if not checked[parent_key] then
    checked[parent_key] = true
    redis.call('SCARD', parent_key .. ':dependencies')
    redis.call('HLEN', parent_key .. ':processed')
  end
end

-- Reads the arguments of the job at `at`, and what is stored of it. A key of the wrong type fails here.
local function read_job(at)
  local q, id = queues[tonumber(ARGV[at + 1])], ARGV[at + 3]
  local job = {
    at = at + 2, queue = q, id = id, key = q.base .. id,
    root = string.find(ARGV[at + 2], 'root') ~= nil,
    unique = string.find(ARGV[at + 2], 'unique') ~= nil,
    held = string.find(ARGV[at + 2], 'held') ~= nil,
    place = ARGV[at + 10],
    parent_key = ARGV[at + 11] == 'parent' and ARGV[at + 12],
    parent_link = ARGV[at + 11] == 'parent' and ARGV[at + 13],
  }
  local known = redis.call('HMGET', job.key, 'parentKey', 'timestamp', 'name', 'hold')
  job.exists = known[2] and true or redis.call('EXISTS', job.key) == 1
  job.stored_parent = known[1] ~= '' and known[1]
  job.on_hold = known[4] and true or false
  -- Whether an earlier execution stored it: nobody else adds the same job in the same millisecond.
  job.ours = job.exists and known[2] == ARGV[at + 7] and known[3] == ARGV[at + 4]
    and job.stored_parent == job.parent_key
  check_place(q.base, job.place)
  if job.parent_key then
    check_parent(job.parent_key)
  end
  return job
end

-- Returns why a job cannot be added, nil if it can.
local function refuse(job)
  if not job.parent_key then
    return nil
  elseif (job.root or step ~= 'check') and not parent_exists(job.parent_key) then
    return PARENT_MISSING
  elseif job.exists and job.stored_parent and job.stored_parent ~= job.parent_key
    and redis.call('EXISTS', job.stored_parent) == 1 then
    return PARENT_CONFLICT
  end
  return nil
end

local jobs, refused, links, joining = {}, nil, {}, {}
local total = tonumber(ARGV[at + 1])
at = at + 1
for i = 1, total do
  local job = read_job(at)
  jobs[i] = job
  job.code = refuse(job)
  refused = refused or job.code and i
  if not job.code and step ~= 'check' then
    exists_of[job.key] = true
  end
  local ended = job.exists and redis.call('ZSCORE', job.queue.base .. 'completed', job.id)
  if not job.code and job.parent_key and not ended then
    links[job.key] = job.parent_key
    if job.exists and not job.ours then
      joining[#joining + 1] = i
    end
  end
  at = at + (job.parent_key and 13 or 11)
end
if #joining > 0 and step ~= 'store' then
  local circles = ancestry()
  local way = circles.new_ascent(links)
  for _, i in ipairs(joining) do
    if circles.waits_for_itself(way, jobs[i].key) then
      jobs[i].code = WAITS_FOR_ITSELF
      refused = math.min(refused or i, i)
    end
  end
end
local parents_at = at + 1
at = parents_at + 2 * tonumber(ARGV[parents_at])
for i = parents_at + 1, at, 2 do
  local base = ARGV[i]
  if not checked[base] then
    checked[base] = true
    check_queue(base)
    redis.call('ZCARD', base .. 'waiting-children')
  end
end

-- Returns whether an earlier execution has added the flow: its new jobs are there, or the events report them. A call
-- is executed as a whole. Returns nil when too many events have come.
local function was_added()
  local reported = {}
  for i = at + 1, #ARGV do
    reported[ARGV[i]] = true
  end
  for _, q in ipairs(queues) do
    local history = read_history(q.base, q.after, {})
    if not history then
      return nil
    end
    for id, add in pairs(history) do
      if not add.dedup then
        reported[q.base .. id] = true
      end
    end
  end
  for _, job in ipairs(jobs) do
    if job.ours or not job.exists and (job.root or job.unique) and reported[job.key] then
      return true
    end
  end
  return false
end

local reply = {}
if step == 'whole' and again then
  local added = was_added()
  if added == nil then
    return {}
  elseif added then
    for i, job in ipairs(jobs) do
      reply[i] = job.exists and not job.ours and DUPLICATE or ADDED
    end
    return reply
  end
end
if (step == 'whole' or step == 'check') and refused then
  return { jobs[refused].code, refused }
end
if step == 'check' then
  return {}
end

-- Queues a job that is held, once.
local function release_hold(job)
  if redis.call('HDEL', job.key, 'hold') == 1 then
    queue_new(job.queue, job.at, job.id)
  end
end

-- Lets an existing job join its parent, unless this very call has done that before.
local function join(job)
  if not again or not job.parent_key or job.stored_parent ~= job.parent_key then
    next_number(job.queue)
    if job.parent_key then
      attach(job.queue, job.id, job.parent_key, job.parent_link)
    end
    emit(job.queue.base, 'duplicated', 'jobId', job.id)
  end
  if job.on_hold then
    release_hold(job)
  end
end

local function store(job)
  next_number(job.queue)
  write_job(job.queue, job.at, job.id)
  if step == 'store' and job.place ~= 'children' then
    redis.call('HSET', job.key, 'hold', ARGV[3])
  else
    queue_new(job.queue, job.at, job.id)
  end
  join_parent(job.queue, job.at, job.id)
end

-- Adds one job, as far as this step goes. Returns its code.
local function add(job)
  if job.held then
    release_hold(job)
    return ADDED
  elseif job.code then
    return job.code
  elseif not job.exists then
    store(job)
    return ADDED
  elseif step == 'store' then
    if again and job.ours or job.on_hold and job.stored_parent == job.parent_key then
      -- The parent may have been removed meanwhile, and stored again by this call.
      join_parent(job.queue, job.at, job.id)
      return ADDED
    end
    return DUPLICATE
  end
  join(job)
  return DUPLICATE
end

-- The counters first: one that is unusable fails the call before anything else is written.
for _, job in ipairs(jobs) do
  local q = job.queue
  q.used = q.used or not job.code
  if not q.counter and not job.code and not job.held and not (step == 'store' and job.exists) then
    next_number(q)
    q.more = -1
  end
end
for i, job in ipairs(jobs) do
  reply[i] = add(job)
end
for i = parents_at + 1, at, 2 do
  local base, id = ARGV[i], ARGV[i + 1]
  release_if_free({ key = base .. id, base = base, id = id }, now)
end
for _, q in ipairs(queues) do
  if q.used then
    close_queue(q)
  end
end
return reply
