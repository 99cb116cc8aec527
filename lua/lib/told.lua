-- What the event stream tells about adds: how a call that is repeated learns what its earlier
-- execution did, where no key shows it any more.

local TOLD_MAX = 5000

-- Returns by job id the first entry since `since` (ms) that tells of its add: {} for a job that was
-- added, {replaced} for one that took another's place, {owner} for one that was deduplicated; the
-- last two with the deduplication id (dedup).
local function read_told(B, since)
  local told = {}
  for _, entry in ipairs(redis.call('XRANGE', B .. 'events', since, '+', 'COUNT', TOLD_MAX)) do
    local f = entry[2]
    if f[2] == 'added' and f[4] then
      told[f[4]] = told[f[4]] or {}
    elseif f[2] == 'deduplicated' and f[8] then
      local kept, dropped = f[4], f[8]
      told[kept] = told[kept] or { replaced = dropped, dedup = f[6] }
      told[dropped] = told[dropped] or { owner = kept, dedup = f[6] }
    end
  end
  return told
end
