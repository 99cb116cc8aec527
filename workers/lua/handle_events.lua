--[[
  handle_events: the events of a delivery's share, each once, in the order of its conversation
  An event that nobody saw becomes the job's: it is recorded, counted and published in this step.
  One that was the job's already stays so, so that a job that runs again has the same result.
  Nothing changes while another share comes first in one of the conversations, or while the share's
  places are still to come.
  KEYS    1 delivery   2 events   3 unknown   4 counts   then the turns, then a seen key an event
  ARGV    1 share   2 owner   3 time to live of seen and delivery (ms)   4 of records (ms)
          5 most events kept   6 most unknown ones   7 channel   8 number of turns
          9 places: "awaited" if they are to come, "late" if they may, "none" if they will not
          then, an event: its kind, "1" if known or "0", its message
  Returns {"behind", number of the turns, share that comes first, its place}
          or {"unplaced"} if the places are awaited and not there
          or {"done", then "1" for each event that is the job's and "0" for each that is not}
]]
local MOST_KINDS = 100
local FIRST_TURN, FIRST_EVENT = 5, 10
local delivery, known, unknown, counts = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local share, owner, seen_ttl, record_ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local most_known, most_unknown, channel = ARGV[5], ARGV[6], ARGV[7]
local turns, places = tonumber(ARGV[8]), ARGV[9]
local first_seen = FIRST_TURN + turns

local state = redis.call('GET', delivery)
if not state and places == 'awaited' then
  return { 'unplaced' }
end

for i = 0, turns - 1 do
  local key = KEYS[FIRST_TURN + i]
  local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
  if first[1] and first[1] ~= share and redis.call('ZSCORE', key, share) then
    return { 'behind', tostring(i), first[1], first[2] }
  end
end

-- Reading all that is written below fails on a key of the wrong type before anything has changed.
local holders = {}
for i = first_seen, #KEYS do
  holders[i] = redis.call('GET', KEYS[i])
end
redis.call('XLEN', known)
redis.call('XLEN', unknown)
local kinds = redis.call('HLEN', counts)

local reply = { 'done' }
local arg = FIRST_EVENT
for i = first_seen, #KEYS do
  local kind, is_known, message = ARGV[arg], ARGV[arg + 1] == '1', ARGV[arg + 2]
  arg = arg + 3
  if not holders[i] then
    -- A full server refuses the first write, so before anybody hears of it. Who may publish cannot be
    -- asked before: a refusal takes that write back.
    redis.call('SET', KEYS[i], owner, 'PX', seen_ttl)
    local heard = redis.pcall('PUBLISH', channel, message)
    if type(heard) == 'table' and heard.err then
      redis.call('DEL', KEYS[i])
      return heard
    end
    if is_known then
      redis.call('XADD', known, 'MAXLEN', '~', most_known, '*', 'event', message)
      redis.call('PEXPIRE', known, record_ttl)
    else
      redis.call('XADD', unknown, 'MAXLEN', '~', most_unknown, '*', 'event', message)
      redis.call('PEXPIRE', unknown, record_ttl)
      -- Kinds of unknown events are made up by others: their number needs a bound.
      if kinds >= MOST_KINDS and redis.call('HEXISTS', counts, kind) == 0 then
        kind = 'other'
      end
    end
    -- A count that somebody made something else is not worth an event.
    if redis.pcall('HINCRBY', counts, kind, 1) == 1 then
      kinds = kinds + 1
    end
    redis.call('PEXPIRE', counts, record_ttl)
  end
  reply[#reply + 1] = (not holders[i] or holders[i] == owner) and '1' or '0'
end

for i = FIRST_TURN, first_seen - 1 do
  redis.call('ZREM', KEYS[i], share)
end
-- Also where no place has come: one that comes later would be nobody's.
if state or places ~= 'none' then
  redis.call('SET', delivery, 'done', 'PX', seen_ttl)
end
return reply
