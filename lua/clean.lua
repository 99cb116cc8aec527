--[[
  clean: any state -> removed
  Deletes the jobs of one place that are older than a time, in bounded steps, the oldest first. Locked jobs and
  pending iterations of job schedulers stay. Of the finished and of the parents the score is the age, of the others
  the time of their last start, else of their add; a time that is missing or unreadable was long ago.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 place: wait, paused, active, delayed, prioritized, waiting-children, completed or failed
          2 dry: 1 changes nothing   3 how many may be deleted (-1: all)   4 behind   5 id: where the step before
          has ended   6 newest time (ms) that is deleted   7 how many were deleted since the last event
  Returns {deleted ids, ids looked at, 1 when the place is at its end, behind, id, deleted since the last event}
  Emits   cleaned, for every 10,000 deleted jobs, and once the place is at its end or the number is reached
  Uses    events, gate, marker, job, parent, dedup, removal, lists, walk
]]
local B = KEYS[1]
local walk, newest, unsaid = read_walk(B), tonumber(ARGV[6]), tonumber(ARGV[7])
local EVENT_MAX = 10000
-- What says how old a job is, the first that it has.
local TIMES = {
  wait = { 'finishedOn', 'processedOn', 'timestamp' },
  paused = { 'finishedOn', 'processedOn', 'timestamp' },
  active = { 'finishedOn', 'processedOn', 'timestamp' },
  delayed = { 'processedOn', 'timestamp' },
  prioritized = { 'timestamp' },
}
local times = TIMES[walk.place]
local limit = walk.limit
-- An event tells of 10,000 jobs at most.
walk.limit = math.min(limit, EVENT_MAX - unsaid)
redis.call('XLEN', B .. 'events')
if not times then
  walk.max = newest
end

local function is_old(id)
  if not times then
    return true
  end
  if is_legacy_marker(id) or belongs_to_scheduler(B, id)
    or walk.place == 'active' and redis.call('EXISTS', B .. id .. ':lock') == 1 then
    return false
  end
  local stored = redis.pcall('HMGET', B .. id, unpack(times))
  for i = 1, #times do
    if stored[i] then
      return number_or_zero(stored[i]) <= newest
    end
  end
  return true
end

local deleted = walk_on(walk, is_old)
if not walk.dry then
  for _, id in ipairs(deleted) do
    -- The keys of its parent may be unusable; the others must go all the same.
    pcall(remove_hard, B, id)
  end
  unsaid = unsaid + #deleted
  local last = walk.ended or #deleted >= limit
  -- `paused` is cleaned with `wait`, which has said so.
  if unsaid >= EVENT_MAX or last and (unsaid > 0 or walk.place ~= 'paused') then
    emit(B, 'cleaned', 'count', unsaid)
    unsaid = 0
  end
end
local reply = walk_reply(walk, deleted)
reply[6] = unsaid
return reply
