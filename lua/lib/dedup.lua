-- Deduplication keys (docs/protocol.md#deduplication): `de:<id>` names the owner of a deduplication id, `dn:<id>`
-- holds the newest add that arrived while the owner was active.

-- Returns whether a job is gone or has ended, so that it will not free its deduplication id any more.
local function is_over(B, id)
  return redis.call('EXISTS', B .. id) == 0 or redis.call('ZSCORE', B .. 'completed', id)
    or redis.call('ZSCORE', B .. 'failed', id)
end

-- Makes a job the owner. With keep_last the owner's end frees the id, and no time limit does.
local function claim(B, dedup, id)
  local key = B .. 'de:' .. dedup.id
  if dedup.ttl > 0 and not dedup.keep_last then
    redis.call('SET', key, id, 'PX', dedup.ttl)
  else
    redis.call('SET', key, id)
  end
end

-- A deduplicated job was removed: its id is free if the job owned it.
local function drop_deduplication(B, id, dedup_id)
  if redis.pcall('GET', B .. 'de:' .. dedup_id) == id then
    redis.call('DEL', B .. 'de:' .. dedup_id, B .. 'dn:' .. dedup_id)
  end
end
