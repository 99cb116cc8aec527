--[[
  promote_jobs: delayed -> waiting | prioritized
  Lets delayed jobs run now, in bounded steps, in the order in which they are due; each as `promote_job` does. Ids
  without a job are dropped. A step after the first leaves what one before may have promoted, and a worker has run
  and put off again: jobs started, and iterations of job schedulers added, since the operation began.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 place: delayed   2 dry: 1 changes nothing   3 how many may be taken (-1: all)   4 behind
          5 id: where the step before has ended   6 when the operation began (ms)
  Returns {ids that run now, ids looked at, 1 when the set is at its end, behind, id}
  Emits   waiting
  Uses    events, gate, marker, place, job, promote, lists, walk
]]
local B = KEYS[1]
local walk = read_walk(B)
local is_first, begun = walk.behind == '', tonumber(ARGV[6])
local settings = check_queue(B)

local function is_left(id)
  if is_first then
    return true
  end
  local time = redis.pcall('HGET', B .. id, string.find(id, '^repeat:') and 'timestamp' or 'processedOn')
  return type(time) ~= 'string' or number_or_zero(time) < begun
end

local promoted = {}
for _, id in ipairs(walk_on(walk, is_left)) do
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
