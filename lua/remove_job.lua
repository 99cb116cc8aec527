--[[
  remove_job: any state -> removed
  Deletes one job and, if asked, all of its children, unless a worker holds one of them.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 id   2 children: 1 to remove them too, else 0
  Returns 1 when the job was deleted, 0 when there was none; or a refusal: SCHEDULER_OWNED, LOCKED
  Emits   removed per deleted job; waiting, for a parent that was released
  Uses    codes, events, gate, marker, place, job, parent, dedup, removal
]]
local B, id = KEYS[1], ARGV[1]
local with_children = ARGV[2] == '1'
local CHILD_MAX = 10000

if belongs_to_scheduler(B, id) and redis.call('EXISTS', B .. id) == 1 then
  return SCHEDULER_OWNED
end

-- Says whether the job or, through its pending children, a descendant is locked.
local seen = 0
local locked
function locked(job_key)
  if redis.call('EXISTS', job_key .. ':lock') == 1 then
    return true
  end
  seen = seen + 1
  if with_children and seen < CHILD_MAX then
    for _, child in ipairs(redis.call('SMEMBERS', job_key .. ':dependencies')) do
      if locked(child) then
        return true
      end
    end
  end
  return false
end
if locked(B .. id) then
  return LOCKED
end

-- Takes the id out of the place that holds it. Returns that place's key name.
local function leave_state(base, job_id)
  for _, set in ipairs({ 'completed', 'waiting-children', 'delayed', 'failed', 'prioritized' }) do
    if redis.call('ZREM', base .. set, job_id) == 1 then
      return set
    end
  end
  for _, list in ipairs({ 'wait', 'paused', 'active' }) do
    if redis.call('LREM', base .. list, 0, job_id) > 0 then
      return list
    end
  end
  return 'unknown'
end

local remove
function remove(base, job_id)
  local job_key = base .. job_id
  local job = redis.call('HMGET', job_key, 'parent', 'parentKey', 'deid')
  unlink_from_parent(job[1], job[2], job_key)
  if with_children then
    local children = {}
    for _, source in ipairs({
      redis.call('HKEYS', job_key .. ':processed'),
      redis.call('HKEYS', job_key .. ':failed'),
      redis.call('ZRANGE', job_key .. ':unsuccessful', 0, -1),
      redis.call('SMEMBERS', job_key .. ':dependencies'),
    }) do
      for _, child in ipairs(source) do
        children[#children + 1] = child
      end
    end
    for _, child in ipairs(children) do
      local child_base, child_id = split_job_key(child)
      if child_base then
        remove(child_base, child_id)
      end
    end
  end
  local prev = leave_state(base, job_id)
  if job[3] then
    drop_deduplication(base, job_id, job[3])
  end
  if delete_job_keys(job_key) > 0 then
    emit(base, 'removed', 'jobId', job_id, 'prev', prev)
    return 1
  end
  return 0
end
local removed = remove(B, id)
trim_events(B, event_cap(B, read_settings(B)))
return removed
