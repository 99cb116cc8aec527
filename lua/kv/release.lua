--[[
  release: deletes a claim or a lock that its holder still has
  KEYS    1 claim
  ARGV    1 owner
  Returns 1, or 0 when there is none or another owner has it
  Emits   nothing
  Uses    nothing
]]
if redis.call('GET', KEYS[1]) ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
