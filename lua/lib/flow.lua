-- Deleting a job together with its children, which may be very many (docs/protocol.md#removing-jobs).

-- What one step may cost, in jobs: up to 30 us of the server's time each.
local FLOW_BUDGET = 60
-- How many entries of a list are skipped in the time that a job costs.
local ENTRIES_PER_JOB = 600
-- How many jobs one step checks for locks, and how many in all: parents may form a cycle.
local LOOK_MAX = 1000
local LOOK_ALL = 1000000
-- How far around a job its list is searched for its siblings, which were added together.
local NEIGHBOURS = 30
local STATE_SETS = { 'completed', 'waiting-children', 'delayed', 'failed', 'prioritized' }
local STATE_LISTS = { 'wait', 'paused', 'active' }

-- Reads one value of each key that deleting a job of a queue writes: a key of the wrong type fails here,
-- before the first write.
local function check_states(B)
  redis.call('XLEN', B .. 'events')
  for _, set in ipairs(STATE_SETS) do
    redis.call('ZCARD', B .. set)
  end
  for _, list in ipairs(STATE_LISTS) do
    redis.call('LLEN', B .. list)
  end
end

local function pending_children_of(job_key)
  return redis.call('SMEMBERS', job_key .. ':dependencies')
end

local function count_pending_children(job_key)
  return redis.call('SCARD', job_key .. ':dependencies')
end

-- The children of a job, those that have ended first.
local function children_of(job_key)
  local children = {}
  for _, source in ipairs({
    redis.call('HKEYS', job_key .. ':processed'),
    redis.call('HKEYS', job_key .. ':failed'),
    redis.call('ZRANGE', job_key .. ':unsuccessful', 0, -1),
    pending_children_of(job_key),
  }) do
    for _, child in ipairs(source) do
      children[#children + 1] = child
    end
  end
  return children
end

local function count_children(job_key)
  return redis.call('HLEN', job_key .. ':processed') + redis.call('HLEN', job_key .. ':failed')
    + redis.call('ZCARD', job_key .. ':unsuccessful') + count_pending_children(job_key)
end

-- What it costs to take a job out of the lists of its queue, in jobs.
local list_costs = {}
local function list_cost(base)
  if not list_costs[base] then
    local entries = 0
    for _, list in ipairs(STATE_LISTS) do
      entries = entries + redis.call('LLEN', base .. list)
    end
    list_costs[base] = entries / ENTRIES_PER_JOB
  end
  return list_costs[base]
end

-- Returns whether the descendants of a job that `count` and `list` know can be deleted within the budget.
local function are_few_below(job_key, budget, count, list)
  local open, cost = { job_key }, 0
  while #open > 0 do
    local key = table.remove(open)
    if cost + count(key) > budget then
      return false
    end
    for _, child in ipairs(list(key)) do
      local base = split_job_key(child)
      cost = cost + 1 + (base and list_cost(base) or 0)
      open[#open + 1] = child
    end
    if cost > budget then
      return false
    end
  end
  return true
end

-- Returns whether a job and its descendants can be deleted in one step.
local function is_small_flow(B, id)
  return are_few_below(B .. id, FLOW_BUDGET, count_children, children_of)
end

-- Returns whether a pending descendant of a small flow is locked.
local any_locked
function any_locked(job_key)
  for _, child in ipairs(pending_children_of(job_key)) do
    if redis.call('EXISTS', child .. ':lock') == 1 or any_locked(child) then
      return true
    end
  end
  return false
end

-- Checks the locks of pending descendants, for one step. `stack` holds job keys, each with the cursor where
-- its children continue; it is empty once all are checked. Returns whether one is locked, and how many were checked.
local function check_locks(stack, seen)
  local budget = LOOK_MAX
  while #stack > 0 and budget > 0 do
    local at = #stack - 1
    local page = redis.call('SSCAN', stack[at] .. ':dependencies', stack[at + 1], 'COUNT', 250)
    local children, locks, pending = page[2], {}, {}
    if page[1] == '0' then
      stack[at], stack[at + 1] = nil, nil
    else
      stack[at + 1] = page[1]
    end
    for i, child in ipairs(children) do
      locks[i], pending[i] = child .. ':lock', child .. ':dependencies'
    end
    if #children > 0 then
      if redis.call('EXISTS', unpack(locks)) > 0 then
        return true, seen
      end
      if redis.call('EXISTS', unpack(pending)) > 0 then
        for i, child in ipairs(children) do
          if redis.call('EXISTS', pending[i]) == 1 then
            stack[#stack + 1], stack[#stack + 2] = child, '0'
          end
        end
      end
    end
    budget = budget - #children - 10
    seen = seen + #children
    if seen > LOOK_ALL then
      for i = #stack, 1, -1 do
        stack[i] = nil
      end
    end
  end
  return false, seen
end

-- Takes the id out of the set that holds it. Returns that set's key name.
local function leave_sets(base, job_id)
  for _, set in ipairs(STATE_SETS) do
    if redis.call('ZREM', base .. set, job_id) == 1 then
      return set
    end
  end
  return nil
end

-- Takes the id out of the place that holds it. Returns that place's key name.
local function leave_state(base, job_id)
  local set = leave_sets(base, job_id)
  if set then
    return set
  end
  for _, list in ipairs(STATE_LISTS) do
    if redis.call('LREM', base .. list, 0, job_id) > 0 then
      return list
    end
  end
  return 'unknown'
end

local function dedup_of(job_key)
  local dedup_id = redis.pcall('HGET', job_key, 'deid')
  return type(dedup_id) == 'string' and dedup_id or nil
end

-- Deletes a job that has left its state `prev`. Returns 1, or 0 when there was none.
local function delete_left(base, job_id, dedup_id, prev)
  if dedup_id then
    drop_deduplication(base, job_id, dedup_id)
  end
  if delete_job_keys(base .. job_id) == 0 then
    return 0
  end
  emit(base, 'removed', 'jobId', job_id, 'prev', prev)
  return 1
end

-- Takes children out of the lists of their queues, for one step: each gets a stand-in, so that no index moves,
-- until `settle` takes the stand-ins out. `neighbours` are pending siblings that were found beside them.
local function list_leaver()
  local leaver, leaving = { neighbours = {} }, {}

  -- Puts the stand-in at an index of a list.
  function leaver.mark(key, index)
    redis.call('LSET', key, index, LEAVING)
    local mark = leaving[key] or { count = 0, index = index }
    leaving[key] = mark
    mark.count = mark.count + 1
  end

  -- Takes a child out of the list that holds it, and notes which of its siblings stand beside it. Returns
  -- that list's key name.
  function leaver.leave(base, job_id, parent_key)
    for _, list in ipairs(STATE_LISTS) do
      local key = base .. list
      local index = redis.call('LPOS', key, job_id)
      if index then
        local from = math.max(index - NEIGHBOURS, 0)
        local ids, keys = redis.call('LRANGE', key, from, index + NEIGHBOURS), {}
        for i, near in ipairs(ids) do
          keys[i] = base .. near
        end
        for i, pending in ipairs(redis.call('SMISMEMBER', parent_key .. ':dependencies', unpack(keys))) do
          if pending == 1 and ids[i] ~= job_id then
            leaver.neighbours[#leaver.neighbours + 1] =
              { base = base, id = ids[i], list = list, index = from + i - 1, parent_key = parent_key }
          end
        end
        leaver.mark(key, index)
        return list
      end
    end
    return 'unknown'
  end

  -- Takes a neighbour out of its list, if it is still there and no worker holds it. Returns whether it was.
  function leaver.leave_beside(near)
    local key = near.base .. near.list
    if redis.call('LINDEX', key, near.index) ~= near.id or redis.call('EXISTS', near.base .. near.id .. ':lock') == 1 then
      return false
    end
    leaver.mark(key, near.index)
    return true
  end

  -- Runs `work`, then takes the stand-ins out. No list may keep one, even after an error.
  function leaver.settle_after(work)
    local ok, problem = pcall(work)
    for key, mark in pairs(leaving) do
      remove_near(key, mark.count, mark.index, LEAVING)
    end
    if not ok then
      error(problem)
    end
  end

  return leaver
end

-- Deletes descendants for one step. `stack` holds the path from the job to the descendant in work: keys, each
-- with the state it was in; all of them have left their states. It is empty when the job itself is deleted,
-- and then 1 is returned, or 0 when there was none.
local function remove_step(stack)
  local budget, deleted = FLOW_BUDGET, 0
  local leaver = list_leaver()

  -- The next child of a job and the key that lists it, children that have ended first.
  local function next_child(job_key)
    local key = job_key .. ':processed'
    local child = redis.call('HRANDFIELD', key)
    if not child then
      key = job_key .. ':failed'
      child = redis.call('HRANDFIELD', key)
    end
    if not child then
      key = job_key .. ':unsuccessful'
      child = redis.call('ZRANGE', key, 0, 0)[1]
    end
    if not child then
      key = job_key .. ':dependencies'
      child = redis.call('SRANDMEMBER', key)
    end
    return child, key
  end

  local function forget(job_key, child)
    redis.call('HDEL', job_key .. ':processed', child)
    redis.call('HDEL', job_key .. ':failed', child)
    redis.call('ZREM', job_key .. ':unsuccessful', child)
    redis.call('SREM', job_key .. ':dependencies', child)
  end

  -- Takes a child out of its state, and returns which that was.
  local function leave(base, job_id, parent_key)
    local set = leave_sets(base, job_id)
    if set or redis.call('EXISTS', base .. job_id) == 0 then
      return set or 'unknown'
    end
    budget = budget - list_cost(base)
    return leaver.leave(base, job_id, parent_key)
  end

  local on_path = {}
  for i = 1, #stack, 2 do
    on_path[stack[i]] = true
  end

  -- Deletes a child (base, id, has_children) that has left its state `prev`, or continues with its children.
  local function drop(job_key, child, prev)
    local child_key = child.base .. child.id
    if child.has_children then
      stack[#stack + 1], stack[#stack + 2] = child_key, prev
      on_path[child_key], leaver.neighbours = true, {}
    else
      delete_left(child.base, child.id, dedup_of(child_key), prev)
      forget(job_key, child_key)
    end
  end

  -- Deletes one child of `job_key`, or else the job itself.
  local function delete_one(job_key, prev)
    local child, source = next_child(job_key)
    local base, child_id = split_job_key(child or job_key)
    if not child then
      deleted = delete_left(base, child_id, dedup_of(job_key), prev)
      stack[#stack], stack[#stack - 1] = nil, nil
      on_path[job_key] = nil
      if #stack > 0 then
        forget(stack[#stack - 1], job_key)
      end
      return
    end
    local pending = string.sub(source, -13) == ':dependencies'
    -- It may have started since the locks were checked.
    if not base or on_path[child] or pending and redis.call('EXISTS', child .. ':lock') == 1 then
      return forget(job_key, child)
    end
    local has_children = count_children(child) > 0
    drop(job_key, { base = base, id = child_id, has_children = has_children }, leave(base, child_id, job_key))
  end

  -- The same for a child that stands beside one whose place is known.
  local function delete_neighbour(job_key, near)
    if leaver.leave_beside(near) then
      local has_children = count_children(near.base .. near.id) > 0
      drop(job_key, { base = near.base, id = near.id, has_children = has_children }, near.list)
    end
  end

  leaver.settle_after(function()
    while #stack > 0 and (budget > 0 or #leaver.neighbours > 0) do
      local near = table.remove(leaver.neighbours)
      budget = budget - 1
      if near then
        delete_neighbour(stack[#stack - 1], near)
      else
        delete_one(stack[#stack - 1], stack[#stack])
      end
    end
  end)
  return deleted
end
