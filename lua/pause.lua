--[[
  pause: no job changes its state
  Stops the queue's workers from starting jobs. Lists are left alone, so that nothing can be lost
  between clients of different versions.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    none
  Returns {"ok"}
  Emits   paused
  Uses    events
]]
local B = KEYS[1]
redis.call('XLEN', B .. 'events')
redis.call('HSET', B .. 'meta', 'paused', 1)
redis.call('DEL', B .. 'marker')
emit(B, 'paused')
return { 'ok' }
