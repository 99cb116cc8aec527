-- Deleting jobs before their time (docs/protocol.md#removing-jobs).

-- A pending iteration must stay as long as its scheduler: removing it would end the schedule.
local function belongs_to_scheduler(B, id)
  local scheduler, due = string.match(id, '^repeat:(.*):(%d+)$')
  if not scheduler then
    return false
  end
  local score = redis.call('ZSCORE', B .. 'repeat', scheduler)
  return score and tonumber(score) == tonumber(due)
end

-- Deletes a job that is out of its state's list already (docs/protocol.md#removing-jobs). A parent in
-- the same queue that waited only for this child is deleted too, one in another queue is released.
local remove_hard
function remove_hard(B, id)
  local job_key = B .. id
  local job = redis.pcall('HMGET', job_key, 'parent', 'parentKey', 'deid')
  if job.err then
    return
  end
  if job[3] then
    drop_deduplication(B, id, job[3])
  end
  delete_job_keys(job_key)
  local parent = (job[1] or job[2]) and find_parent(job[1], job[2])
  if not parent or not remove_pending(parent, job_key)
    or redis.call('SCARD', parent.key .. ':dependencies') > 0
    or not leave_waiting_children(parent) then
    return
  end
  if parent.base == B then
    remove_hard(B, parent.id)
  else
    redis.call('RPUSH', parent.base .. 'wait', parent.id)
    wake_unless_blocked(parent.base, read_settings(parent.base))
  end
end
