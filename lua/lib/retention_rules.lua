-- Several rules of retention at once.

-- How many finished jobs one call deletes; `trim_finished` deletes the rest.
local PRUNE_MAX = 100

-- Applies rules, the keys of a table: '<set>:<count>:<age in ms>:<limit>', in the terms of `prune`; ARGV[1] is the time.
-- Appends set, count, age and limit of each that has work left to advance's reply, and their number.
local function apply_rules(B, rules, reply)
  local budget, left = PRUNE_MAX, 0
  for text in pairs(rules) do
    local set, count, age, limit = string.match(text, '^(%l+):(-?%d+):(-?%d+):(%d+)$')
    local rule = { set = set, count = tonumber(count), age = tonumber(age), limit = tonumber(limit) }
    local by_age, by_count, more = prune(B, rule, tonumber(ARGV[1]), budget)
    budget = budget - by_age - by_count
    if more then
      local n = #reply
      reply[n + 1], reply[n + 2], reply[n + 3], reply[n + 4] = set, count, age, rule.limit - by_age
      left = left + 1
    end
  end
  reply[4] = left
end
