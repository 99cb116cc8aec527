-- A job's lock: the token of the worker that holds it (spec processing §1, "lock check").

-- Returns nil when `token` holds the lock, else the refusal. '0' means "no lock" and always passes.
local function check_lock(job_key, token)
  if token == '0' then
    return nil
  end
  local holder = redis.call('GET', job_key .. ':lock')
  if not holder then
    return LOCK_MISSING
  end
  if holder ~= token then
    return LOCK_LOST
  end
  return nil
end

-- Gives up a lock that `check_lock` has passed.
local function drop_lock(B, id, token)
  if token ~= '0' then
    redis.call('DEL', B .. id .. ':lock')
    redis.call('SREM', B .. 'stalled', id)
  end
end
