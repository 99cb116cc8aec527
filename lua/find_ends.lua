--[[
  find_ends: no change of state
  Reads whether jobs have ended, and the newest event at that moment.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    ids
  Returns {id of the newest event, for each id: end, text}
          end: completed (text: result, JSON), failed (text: reason), open or missing
  Emits   nothing
  Uses    nothing
]]
local B = KEYS[1]
local events = B .. 'events'

-- The newest id, also when its entry has been trimmed.
local function newest_event()
  local newest = redis.call('XREVRANGE', events, '+', '-', 'COUNT', 1)
  if newest[1] then
    return newest[1][1]
  end
  if redis.call('EXISTS', events) == 1 then
    local info = redis.call('XINFO', 'STREAM', events)
    for i = 1, #info, 2 do
      if info[i] == 'last-generated-id' then
        return info[i + 1]
      end
    end
  end
  return '0-0'
end

-- A key of another type is not a job, and must not fail the call for the others.
local function field(id, name)
  local value = redis.pcall('HGET', B .. id, name)
  return type(value) == 'string' and value or ''
end

local reply = { newest_event() }
for i = 1, #ARGV do
  local id = ARGV[i]
  local ending, text = 'open', ''
  if redis.call('EXISTS', B .. id) == 0 then
    ending = 'missing'
  elseif redis.call('ZSCORE', B .. 'completed', id) then
    ending, text = 'completed', field(id, 'returnvalue')
  elseif redis.call('ZSCORE', B .. 'failed', id) then
    ending, text = 'failed', field(id, 'failedReason')
  end
  reply[#reply + 1] = ending
  reply[#reply + 1] = text
end
return reply
