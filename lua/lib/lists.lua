-- Taking several entries out of a list at once: each is replaced by a stand-in first, and the stand-ins leave
-- together, before the script ends.

local LEAVING = '0:leaving'

-- Removes `count` entries of one value from a list, searching from the end that is nearer to `index`, because
-- lists may be long.
local function remove_near(key, count, index, value)
  local from_head = index < redis.call('LLEN', key) / 2
  redis.call('LREM', key, from_head and count or -count, value)
end
