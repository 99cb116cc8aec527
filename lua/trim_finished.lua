--[[
  trim_finished: completed | failed -> removed
  Continues the retention that an `advance` left unfinished, in bounded steps.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 now (ms)   2 set: completed or failed   3 keep count (-1: all)   4 keep age (ms, -1: any)
          5 how many the age rule may still delete
  Returns {deleted by age, 1 when more is due}
  Emits   waiting, for a parent whose last pending child was deleted
  Uses    events, gate, marker, job, parent, retention
]]
local B = KEYS[1]
local now = tonumber(ARGV[1])
local rule = { set = ARGV[2], count = tonumber(ARGV[3]), age = tonumber(ARGV[4]), limit = tonumber(ARGV[5]) }
local by_age, _, more = prune(B, rule, now, 200)
return { by_age, more and 1 or 0 }
