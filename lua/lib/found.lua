-- Where a job is that was refused because it is somewhere else (docs/protocol.md#refusals).

-- How far a list is searched. A job further down counts as in no state: it is worth no more time.
local FOUND_MAX = 20000

-- Returns the refusal of a job that is not in the state `needed`: the code, that state, and the job's own, '' for none.
-- A key of the wrong type holds no job.
local function wrong_state(B, id, needed)
  for _, state in ipairs({ 'completed', 'failed', 'delayed', 'prioritized', 'waiting-children' }) do
    if type(redis.pcall('ZSCORE', B .. state, id)) == 'string' then
      return { WRONG_STATE, needed, state }
    end
  end
  for list, state in pairs({ active = 'active', wait = 'waiting', paused = 'waiting' }) do
    if type(redis.pcall('LPOS', B .. list, id, 'MAXLEN', FOUND_MAX)) == 'number' then
      return { WRONG_STATE, needed, state }
    end
  end
  return { WRONG_STATE, needed, '' }
end
