-- What the end of an attempt means for others than its job.

-- Tells those who wait for a job's end for good: the next add of its deduplication id, and its parent. These are
-- keys of other jobs, unchecked until now: if they are unusable, this job ends all the same.
-- job: id, key, fields (as advance reads them), failed (whether it did), value (or reason).
local function end_for_others(B, job)
  local parent_link, parent_key, dedup_id = job.fields[3], job.fields[4], job.fields[5]
  if dedup_id then
    pcall(dedups().end_deduplication, B, { id = job.id, deid = dedup_id }, tonumber(ARGV[1]))
  end
  if parent_link or parent_key then
    local flow = flows()
    local parent = flow.find_parent(parent_link, parent_key)
    if parent then
      pcall(job.failed and flow.parent_of_failed or flow.parent_of_completed, parent, job.key, job.value, tonumber(ARGV[1]))
    end
  end
end

-- Deletes a job of which nothing is to be kept. fields: as advance reads them.
local function delete_ended(key, fields)
  delete_job_keys(key)
  if fields[3] or fields[4] then
    pcall(unlink_from_parent, fields[3], fields[4], key)
  end
end
