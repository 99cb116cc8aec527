--[[
  notify_once: publishes a notice unless that was done under the same claim before
  Claim and notice are one step, so that a crash neither repeats a notice nor leaves a claim without
  one; a refused PUBLISH takes the claim back.
  KEYS    1 claim
  ARGV    1 time to live of the claim (ms)   2 channel   3 notice
  Returns 1 if it was published now, 0 if before; or the error of PUBLISH
]]
local claim = KEYS[1]
local ttl, channel, notice = ARGV[1], ARGV[2], ARGV[3]

if not redis.call('SET', claim, '1', 'NX', 'PX', ttl) then
  return 0
end
local published = redis.pcall('PUBLISH', channel, notice)
if type(published) == 'table' and published.err then
  redis.call('DEL', claim)
  return published
end
return 1
