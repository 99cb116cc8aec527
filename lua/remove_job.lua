--[[
  remove_job: any state -> removed
  Deletes one job and, if asked, all of its children, unless a worker holds one of them. A small flow goes in
  one step. A large one goes in bounded steps: first all locks are checked, and nothing changes. Then the job
  leaves its state, so that nothing starts or releases it any more, and its descendants are deleted from the
  leaves up, then the job itself. A child that a worker starts between two of these steps is not deleted, and
  its end does not affect the parent.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 id   2 children: 1 to remove them too, else 0
          then, to continue, what the call before returned
  Returns 1 when the job was deleted, 0 when there was none; or a refusal: SCHEDULER_OWNED, LOCKED
          or where to continue: {"check", how many were checked, job key, cursor, ...}: nothing has changed;
          {"remove", job key, the state it was in, ...}
  Emits   removed per deleted job; waiting, for a parent that was released
  Uses    codes, events, gate, marker, job, parent, dedup, removal, lists, flow
]]
local B, id, stage = KEYS[1], ARGV[1], ARGV[3]
local with_children = ARGV[2] == '1'
local settings = read_settings(B)
check_states(B)

if not stage and belongs_to_scheduler(B, id) and redis.call('EXISTS', B .. id) == 1 then
  return SCHEDULER_OWNED
end
if stage ~= 'remove' and redis.call('EXISTS', B .. id .. ':lock') == 1 then
  return LOCKED
end

-- A job that is deleted in one step leaves its parent before its children do, as BullMQ has it.
local remove
function remove(base, job_id)
  local job_key = base .. job_id
  local job = redis.call('HMGET', job_key, 'parent', 'parentKey', 'deid')
  unlink_from_parent(job[1], job[2], job_key)
  if with_children then
    for _, child in ipairs(children_of(job_key)) do
      local child_base, child_id = split_job_key(child)
      if child_base then
        remove(child_base, child_id)
      end
    end
  end
  return delete_left(base, job_id, job[3], leave_state(base, job_id))
end

local outcome
if not with_children or not stage and is_small_flow(B, id) then
  if with_children and any_locked(B .. id) then
    return LOCKED
  end
  outcome = remove(B, id)
else
  local stack, seen = { unpack(ARGV, 4) }, 0
  if stage == 'check' then
    seen = tonumber(table.remove(stack, 1))
  elseif not stage then
    stack, stage = { B .. id, '0' }, 'check'
  end
  if stage == 'check' then
    local locked
    locked, seen = check_locks(stack, seen)
    if locked then
      return LOCKED
    elseif #stack > 0 then
      return { 'check', seen, unpack(stack) }
    end
    local link = redis.call('HMGET', B .. id, 'parent', 'parentKey')
    unlink_from_parent(link[1], link[2], B .. id)
    stack = { B .. id, leave_state(B, id) }
  else
    outcome = remove_step(stack)
  end
  if #stack > 0 then
    outcome = { 'remove', unpack(stack) }
  end
end
apply_event_cap(B, settings)
return outcome
