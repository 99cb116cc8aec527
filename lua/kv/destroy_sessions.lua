--[[
  destroy_sessions: ends the sessions of one user
  KEYS    1 index of the user
  ARGV    1 prefix of all session keys   2 tail of the key of one to keep, or ''   3 most to end in
          this call
  Returns {how many there were, how many are left beside the one to keep}
  Emits   nothing
  Uses    nothing
]]
local index, prefix, keep, most = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])

local ended, tails, sessions = 0, {}, {}
for _, tail in ipairs(redis.call('ZRANGE', index, 0, most)) do
  if tail ~= keep then
    tails[#tails + 1] = tail
    sessions[#sessions + 1] = prefix .. tail
  end
end
if #tails > 0 then
  ended = redis.call('DEL', unpack(sessions))
  redis.call('ZREM', index, unpack(tails))
end
local left = redis.call('ZCARD', index)
if keep ~= '' and redis.call('ZSCORE', index, keep) then
  left = left - 1
end
return { ended, left }
