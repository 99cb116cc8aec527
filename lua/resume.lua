--[[
  resume: paused (legacy list) -> waiting
  Lets workers start jobs again, and moves back what a BullMQ 5 client parked in `paused`, to run
  before what came later. Bounded: called until nothing is left there.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 continue: 1 on every call after the first, else 0
  Returns 1 when ids are left in `paused`, else 0
  Emits   resumed, on the first call
  Uses    events, marker
]]
local B = KEYS[1]
local MOVE_MAX = 1000
redis.call('XLEN', B .. 'events')
redis.call('LLEN', B .. 'wait')
redis.call('LLEN', B .. 'paused')
redis.call('ZCARD', B .. 'marker')
redis.call('HDEL', B .. 'meta', 'paused')

local left = 0
if redis.call('EXISTS', B .. 'paused') == 1 then
  if redis.call('EXISTS', B .. 'wait') == 0 then
    redis.call('RENAME', B .. 'paused', B .. 'wait')
  else
    local ids = redis.call('LRANGE', B .. 'paused', 0, MOVE_MAX - 1)
    redis.call('RPUSH', B .. 'wait', unpack(ids))
    redis.call('LTRIM', B .. 'paused', #ids, -1)
    left = redis.call('EXISTS', B .. 'paused')
  end
end
if has_ready(B) then
  wake(B)
else
  announce_due(B)
end
if ARGV[1] == '0' then
  emit(B, 'resumed')
end
return left
