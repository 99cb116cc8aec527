-- What the event stream reports about adds: a repeated call finds there what its earlier execution did, when
-- no key shows it any more. The caller has read the stream up to an entry, page by page; the script reads
-- only what has come since.

-- How many entries a script reads itself; the caller reads the others first.
local REST_MAX = 200

-- Returns the entries after `after`, or nil when there are too many.
local function read_rest(B, after)
  local rest = redis.call('XRANGE', B .. 'events', '(' .. after, '+', 'COUNT', REST_MAX + 1)
  return #rest <= REST_MAX and rest or nil
end

-- Returns by job id the first entry about its add: {} for a job that was added, {replaced} for
-- one that took another's place, {owner} for one that was deduplicated; the last two with the
-- deduplication id (dedup). `history` has what the caller found up to the entry `after`. Returns nil when too
-- many entries have come since.
local function read_history(B, after, history)
  local rest = read_rest(B, after)
  if not rest then
    return nil
  end
  for _, entry in ipairs(rest) do
    local f = entry[2]
    if f[2] == 'added' and f[4] then
      history[f[4]] = history[f[4]] or {}
    elseif f[2] == 'deduplicated' and f[8] then
      local kept, dropped = f[4], f[8]
      history[kept] = history[kept] or { replaced = dropped, dedup = f[6] }
      history[dropped] = history[dropped] or { owner = kept, dedup = f[6] }
    end
  end
  return history
end
