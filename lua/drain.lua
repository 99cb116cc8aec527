--[[
  drain: waiting | prioritized | delayed -> removed
  Deletes jobs that have not started, in bounded steps. Pending iterations of job schedulers stay.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 place: wait, paused, prioritized or delayed   2 dry: 1 changes nothing   3 how many may be deleted
          (-1: all)   4 behind   5 id: where the step before has ended
  Returns {deleted ids, ids looked at, 1 when the place is at its end, behind, id}
  Emits   nothing for the deleted jobs
  Uses    gate, marker, job, parent, dedup, removal, lists, walk
]]
local B = KEYS[1]
local walk = read_walk(B)
local deleted = walk_on(walk, function(id)
  return not belongs_to_scheduler(B, id)
end)
for _, id in ipairs(walk.dry and {} or deleted) do
  -- The keys of its parent may be unusable; the others must go all the same.
  pcall(remove_hard, B, id)
end
return walk_reply(walk, deleted)
