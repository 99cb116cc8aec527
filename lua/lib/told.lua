-- What the event stream tells about adds: how a call that is repeated learns what its earlier
-- execution did, where no key shows it any more. The caller has read the stream up to an entry, page by
-- page; the script reads only what has come since.

-- A longer rest is for the caller to read first.
local REST_MAX = 200

-- Returns by job id the first entry that tells of its add: {} for a job that was added, {replaced} for
-- one that took another's place, {owner} for one that was deduplicated; the last two with the
-- deduplication id (dedup). `told` has what the caller found up to the entry `after`. Returns nil when too
-- many entries have come since.
local function read_told(B, after, told)
  local rest = redis.call('XRANGE', B .. 'events', '(' .. after, '+', 'COUNT', REST_MAX + 1)
  if #rest > REST_MAX then
    return nil
  end
  for _, entry in ipairs(rest) do
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
