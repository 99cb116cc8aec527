--[[
  promote_jobs: delayed -> waiting | prioritized
  Lets delayed jobs run now, in bounded steps, in the order in which they are due; each as `promote_job` does. Ids
  without a job are dropped.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 place: delayed   2 dry: 1 changes nothing   3 how many may be taken (-1: all)   4 behind
          5 id: where the step before has ended
  Returns {ids that run now, ids looked at, 1 when the set is at its end, behind, id}
  Emits   waiting
  Uses    events, gate, marker, place, job, promote, lists, walk
]]
local B = KEYS[1]
local walk = read_walk(B)
local settings = check_queue(B)
local promoted = {}
for _, id in ipairs(walk_on(walk, function()
  return true
end)) do
  local exists
  if walk.dry then
    exists = redis.call('EXISTS', B .. id) == 1
  else
    exists = promote_left(B, id)
  end
  if exists then
    promoted[#promoted + 1] = id
  end
end
if #promoted > 0 and not walk.dry then
  wake_unless_blocked(B, settings)
  apply_event_cap(B, settings)
end
return walk_reply(walk, promoted)
