--[[
  remove_unprocessed_children: any state -> removed, for the pending children of a job
  Deletes the children that a job waits for, each with its own pending descendants, except those that a worker
  holds or that have failed: they stay, and stay pending. A job that waits for no other child is released. Goes in
  bounded steps, over a child at a time: a child with few pending descendants is deleted with them, in one step. One
  with many leaves its state first, so that nothing starts or releases it any more, and is deleted after them. Its
  parent waits for it until then, so that a call from the beginning finds what an interrupted one has left.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 id of the parent
          then, to continue, what the call before returned after its first element
  Returns {how many jobs were deleted, then where to continue: nothing at the end};
          or a refusal: JOB_MISSING
  Emits   removed per deleted job; waiting, for a parent that was released
  Uses    codes, events, gate, marker, job, parent, dedup, removal, lists, flow
]]
local B, id = KEYS[1], ARGV[1]
local root = B .. id
-- How many children one look at a job reads, and what a child costs that stays, in jobs.
local PAGE, LOOK_COST = 100, 0.2
local settings = read_settings(B)
check_states(B)
redis.call('SCARD', root .. ':dependencies')

-- Of each job in work its key, the state it was in (empty: it stays), and the cursor where its children go on.
local stack = { unpack(ARGV, 2) }
if #stack == 0 then
  if redis.call('EXISTS', root) == 0 then
    return JOB_MISSING
  end
  stack = { root, '', '0' }
end

local leaver = list_leaver()
local budget, removed = FLOW_BUDGET, 0
local on_path = {}
for i = 1, #stack, 3 do
  on_path[stack[i]] = true
end

-- Whether a pending child stays. A job may be among its own descendants: one that is in work ends by itself.
local function stays(base, child_id)
  local child = base .. child_id
  return on_path[child] or redis.call('EXISTS', child .. ':lock') == 1
    or redis.call('ZSCORE', base .. 'failed', child_id)
end

local function leave(base, child_id, parent_key)
  local set = leave_sets(base, child_id)
  if set then
    return set
  end
  budget = budget - list_cost(base)
  return leaver.leave(base, child_id, parent_key)
end

-- Deletes a pending child of `parent_key`; `list` is the list that it has left already, if it has. Returns false
-- when its descendants are left for further steps.
local remove
function remove(parent_key, base, child_id, list)
  local child_key = base .. child_id
  local pending = count_pending_children(child_key)
  local few = pending == 0 or are_few_below(child_key, budget, count_pending_children, pending_children_of)
  if not few then
    list = list or leave(base, child_id, parent_key)
    stack[#stack + 1], stack[#stack + 2], stack[#stack + 3] = child_key, list, '0'
    on_path[child_key] = true
    return false
  end
  unlink_from_parent(nil, parent_key, child_key)
  if pending > 0 then
    for _, child in ipairs(pending_children_of(child_key)) do
      local its_base, its_id = split_job_key(child)
      if its_base and not stays(its_base, its_id) then
        remove(child_key, its_base, its_id)
      end
    end
  end
  budget = budget - 1
  removed = removed + delete_left(base, child_id, dedup_of(child_key), list or leave(base, child_id, parent_key))
  return true
end

-- Deletes the siblings that were found beside a child in a list. Returns false when the descendants of one are
-- left for further steps.
local function remove_neighbours()
  while #leaver.neighbours > 0 do
    local near = table.remove(leaver.neighbours)
    local key = near.base .. near.id
    if redis.call('SISMEMBER', near.parent_key .. ':dependencies', key) == 1 and not stays(near.base, near.id)
      and leaver.leave_beside(near)
      and not remove(near.parent_key, near.base, near.id, near.list) then
      leaver.neighbours = {}
      return false
    end
  end
  return true
end

-- Deletes children of the job on top of the stack. Returns false when its page is not done with.
local function remove_page(job_key, children)
  for _, child in ipairs(children) do
    if budget <= 0 then
      return false
    end
    local base, child_id = split_job_key(child)
    -- A sibling's deletion may have taken it along.
    if not base or redis.call('SISMEMBER', job_key .. ':dependencies', child) == 0 or stays(base, child_id) then
      budget = budget - LOOK_COST
    elseif not remove(job_key, base, child_id) or not remove_neighbours() then
      return false
    end
  end
  return true
end

leaver.settle_after(function()
  while #stack > 0 and budget > 0 do
    local top = #stack - 2
    local job_key, prev = stack[top], stack[top + 1]
    local page = redis.call('SSCAN', job_key .. ':dependencies', stack[top + 2], 'COUNT', PAGE)
    budget = budget - 1
    if remove_page(job_key, page[2]) then
      stack[top + 2] = page[1]
      if page[1] == '0' then
        stack[top], stack[top + 1], stack[top + 2] = nil, nil, nil
        on_path[job_key] = nil
        if prev ~= '' then
          local base, job_id = split_job_key(job_key)
          unlink_from_parent(nil, stack[top - 3], job_key)
          removed = removed + delete_left(base, job_id, dedup_of(job_key), prev)
        end
      end
    end
  end
end)
apply_event_cap(B, settings)
return { removed, unpack(stack) }
