-- Several rules of retention at once.

-- Applies rules, the keys of a table: '<set>:<count>:<age in ms>:<limit>', in the terms of `prune`. Deletes at most
-- `budget` jobs; ARGV[1] is the time. Returns the rules that have work left: set, count, age and limit of each.
local function apply_rules(B, rules, budget)
  local backlog = {}
  for text in pairs(rules) do
    local set, count, age, limit = string.match(text, '^(%l+):(-?%d+):(-?%d+):(%d+)$')
    local rule = { set = set, count = tonumber(count), age = tonumber(age), limit = tonumber(limit) }
    local by_age, by_count, more = prune(B, rule, tonumber(ARGV[1]), budget)
    budget = budget - by_age - by_count
    if more then
      local n = #backlog
      backlog[n + 1], backlog[n + 2], backlog[n + 3], backlog[n + 4] = set, count, age, rule.limit - by_age
    end
  end
  return backlog
end
