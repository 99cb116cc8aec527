--[[
  replace_token: replaces an account's sealed token that nobody has replaced or removed meanwhile
  KEYS    1 tokens
  ARGV    1 account   2 sealed token it must have   3 new sealed token
  Returns 1, or 0 when it has another or none
]]
local tokens = KEYS[1]
local account, old, new = ARGV[1], ARGV[2], ARGV[3]

if redis.call('HGET', tokens, account) ~= old then
  return 0
end
redis.call('HSET', tokens, account, new)
return 1
