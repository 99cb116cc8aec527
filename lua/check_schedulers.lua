--[[
  check_schedulers: no change of state
  Finds schedulers whose current iteration will not run, a page at a time. Checks are at least one
  interval apart per queue.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 now (ms)   2 interval (ms)   3 how many schedulers to skip (0: begin a check)
          4 how many to check
  Returns {how many to skip next (0: the check has ended), found}
          found: scheduler id, occurrence (ms), state of the iteration (finished, gone or stranded),
          definition, opts of the iteration (JSON, empty: none), ...
  Emits   nothing
  Uses    scheduler
]]
local B, now, from, size = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[3]), tonumber(ARGV[4])
if redis.call('EXISTS', B .. 'repeat') == 0 then
  return { 0, {} }
end
-- This key belongs to no job: ids do not have a single colon.
if from == 0 and not redis.call('SET', B .. 'stalled-check:schedulers', ARGV[1], 'PX', ARGV[2], 'NX') then
  return { 0, {} }
end
local found = {}
-- The latest occurrences come first: a repaired scheduler moves into the part that has been checked.
local page = redis.call('ZREVRANGE', B .. 'repeat', from, from + size - 1, 'WITHSCORES')
for i = 1, #page, 2 do
  local scheduler, occurrence = page[i], tonumber(page[i + 1])
  local id = iteration_id(scheduler, occurrence)
  local state = iteration_state(B, id)
  if state ~= 'live' then
    local definition = redis.pcall('HGETALL', B .. 'repeat:' .. scheduler)
    local ends, missed, repeatable = nil, false, is_repeatable_key(scheduler)
    for f = 1, #definition, 2 do
      if definition[f] == 'endDate' then
        ends = tonumber(definition[f + 1])
      elseif definition[f] == 'catchUp' then
        missed = definition[f + 1] == 'all'
      elseif definition[f] == 'ic' then
        repeatable = false
      end
    end
    if not repeatable and not (ends and now > ends and not missed) then
      -- Keys of the wrong type must not keep the others from being checked.
      local opts = redis.pcall('HGET', B .. id, 'opts')
      for _, value in ipairs({ scheduler, whole(occurrence), state, definition.err and {} or definition,
        type(opts) == 'string' and opts or '' }) do
        found[#found + 1] = value
      end
    end
  end
end
return { #page == 2 * size and from + size or 0, found }
