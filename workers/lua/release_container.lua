--[[
  release_container: takes back a job's claim if this container has it
  KEYS    1 claim of the job
  ARGV    1 container
  Returns 1, or 0 if another container or none has the claim
]]
local claim = KEYS[1]
local container = ARGV[1]

if redis.call('GET', claim) == container then
  return redis.call('DEL', claim)
end
return 0
