--[[
  sliding_window: writes a request into the log of the last window, if it fits
  The log has an entry for each unit of cost, scored with its time. Times never go backwards in it: a
  client whose clock is behind writes the time of the newest entry. A refusal writes nothing.
  KEYS    1 log
  ARGV    1 limit   2 cost   3 now (ms)   4 window (ms)   5 time to live (ms)   6 peek: 1 to write nothing
  Returns {allowed (1 or 0), remaining, ms until the log is empty, ms until the cost fits}
  Emits   nothing
  Uses    nothing
]]
local log = KEYS[1]
local limit, cost = tonumber(ARGV[1]), tonumber(ARGV[2])
local now, window = tonumber(ARGV[3]), tonumber(ARGV[4])
local newest = tonumber(redis.call('ZRANGE', log, -1, -1, 'WITHSCORES')[2])
if newest and newest > 2 ^ 53 then
  return redis.error_reply('ERR the time of the newest entry is not an integer')
end
local at = math.max(now, newest or now)
local gone = string.format('%.0f', at - window)
local used = redis.call('ZCOUNT', log, '(' .. gone, '+inf')
local fits = used + cost <= limit
local wait = 0
if not fits then
  -- The cost fits when as many of the oldest entries as are in its way have left the window.
  local last = redis.call('ZCARD', log) - used + math.min(used + cost - limit, used) - 1
  wait = tonumber(redis.call('ZRANGE', log, last, last, 'WITHSCORES')[2]) + window - now
elseif ARGV[6] ~= '1' then
  local stamp = string.format('%.0f', at)
  -- In bounded steps: more of them go than come.
  local most = cost + 500
  if redis.call('ZCARD', log) - used > most then
    gone = redis.call('ZRANGE', log, most - 1, most - 1, 'WITHSCORES')[2]
  end
  redis.call('ZREMRANGEBYSCORE', log, '-inf', gone)
  -- Entries of one time leave together, so that their number names the next one.
  local same = redis.call('ZCOUNT', log, stamp, stamp)
  local entries = {}
  for i = 1, cost do
    entries[#entries + 1] = stamp
    entries[#entries + 1] = stamp .. '-' .. (same + i)
    if #entries == 1000 or i == cost then
      redis.call('ZADD', log, unpack(entries))
      entries = {}
    end
  end
  redis.call('PEXPIRE', log, ARGV[5])
  used, newest = used + cost, at
end
local empty = used > 0 and newest + window - now or 0
return { fits and 1 or 0, math.max(limit - used, 0), empty, wait }
