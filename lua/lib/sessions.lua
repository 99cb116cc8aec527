-- The index of a user's sessions: a sorted set of their keys' tails by the time (ms) they end.

-- Fails, before anything is written, when an index is no sorted set; '' names none.
local function check_index(index)
  if index ~= '' then
    redis.call('ZCARD', index)
  end
end

-- How many ended sessions one call drops from an index; readers skip the rest.
local DROP_MAX = 200

-- Drops sessions that have ended, in bounded steps.
local function drop_ended(index, now)
  local ended = redis.call('ZRANGEBYSCORE', index, '-inf', now, 'LIMIT', 0, DROP_MAX)
  if #ended > 0 then
    redis.call('ZREM', index, unpack(ended))
  end
end

-- Records when a session ends, drops some that have ended, and lets the index expire with the last of its
-- sessions.
local function note_session(index, tail, ends, now)
  if index == '' then
    return
  end
  redis.call('ZADD', index, ends, tail)
  drop_ended(index, now)
  local last = redis.call('ZREVRANGE', index, 0, 0, 'WITHSCORES')
  if last[2] then
    redis.call('PEXPIRE', index, last[2] - now)
  end
end

local function forget_session(index, tail)
  if index ~= '' then
    redis.call('ZREM', index, tail)
  end
end
