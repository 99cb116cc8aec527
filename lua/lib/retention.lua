-- Keeping finished sets within what the jobs asked for, in bounded steps (docs/protocol.md#retention).

-- Deletes the finished jobs `ids` from `set`, a full key.
local function delete_finished(B, set, ids)
  for _, id in ipairs(ids) do
    local job_key = B .. id
    local link = redis.pcall('HMGET', job_key, 'parent', 'parentKey')
    if link[1] or link[2] then
      pcall(unlink_from_parent, link[1], link[2], job_key)
    end
    delete_job_keys(job_key)
  end
  redis.call('ZREM', set, unpack(ids))
end

-- Prunes a finished set by age, then by count, deleting at most `budget` jobs.
-- rule: set (completed or failed), count (-1: all), age in ms (-1: any), limit: how many the age rule may
-- delete. Returns how many were deleted by age, by count, and whether more is due.
local function prune(B, rule, now, budget)
  local set, by_age, by_count, more = B .. rule.set, 0, 0, false
  if rule.age >= 0 and rule.limit > 0 then
    local want = math.min(rule.limit, budget)
    local old = redis.call('ZREVRANGEBYSCORE', set, now - rule.age, '-inf', 'LIMIT', 0, want)
    by_age = #old
    if by_age > 0 then
      delete_finished(B, set, old)
    end
    more = by_age == want and want < rule.limit
  end
  if rule.count > 0 and by_age < budget then
    local excess = redis.call('ZCARD', set) - rule.count
    local want = math.min(excess, budget - by_age)
    if want > 0 then
      local oldest = redis.call('ZRANGE', set, 0, want - 1)
      by_count = #oldest
      delete_finished(B, set, oldest)
      more = more or excess > want
    end
  elseif rule.count > 0 then
    more = more or redis.call('ZCARD', set) > rule.count
  end
  return by_age, by_count, more
end
