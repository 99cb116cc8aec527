--[[
  retry_jobs: failed | completed -> waiting | prioritized
  Runs finished jobs again that ended up to a time, in bounded steps, those that ended first before the others;
  each as `retry_job` does. Ids without a job are dropped.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 state: failed or completed   2 dry: 1 changes nothing   3 how many may be taken (-1: all)   4 behind
          5 id: where the step before has ended   6 latest end (ms)   7 reset the attempts made: 1 or 0
          8 reset the attempts started: 1 or 0
  Returns {ids that run again, ids looked at, 1 when the set is at its end, behind, id}
  Emits   waiting
  Uses    events, gate, marker, place, job, parent, retry, lists, walk
]]
local B = KEYS[1]
local walk, reset = read_walk(B), { made = ARGV[7] == '1', started = ARGV[8] == '1' }
local settings = check_queue(B)
walk.max = tonumber(ARGV[6])
local again = {}
for _, id in ipairs(walk_on(walk, function()
  return true
end)) do
  if redis.call('EXISTS', B .. id) == 1 then
    local fields = redis.pcall('HMGET', B .. id, unpack(RETRY_FIELDS))
    if not fields.err then
      again[#again + 1] = id
      if not walk.dry then
        run_again(B, { id = id, state = walk.place, fields = fields }, reset)
      end
    end
  end
end
if #again > 0 and not walk.dry then
  wake_unless_blocked(B, settings)
  apply_event_cap(B, settings)
end
return walk_reply(walk, again)
