--[[
  remove_orphans: in no state -> removed
  Deletes what is left of jobs that no state has: the hash, keys of their own, the deduplication id. A parent stops
  waiting for such a job. Every id is looked up in all places before, and is left alone if one has it; a long list
  costs a call for each id. What a flow that is being added holds is none, unless its producer died an hour ago.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 dry: 1 changes nothing   2 how many may be deleted   3 now (ms)   then ids that have keys
  Returns {deleted ids, how many of the given ids were looked at}
  Emits   waiting, for a parent that was released
  Uses    events, gate, marker, job, parent, dedup, removal, lists, flow
]]
local B, dry, limit, now = KEYS[1], ARGV[1] == '1', tonumber(ARGV[2]), tonumber(ARGV[3])
check_states(B)
-- What it costs to find an id in a set, in jobs.
local LOOK_COST = 0.25
-- How long (ms) the jobs of a flow may be held.
local HOLD_MAX = 3600000

local FIELDS = { 'name', 'data', 'opts', 'timestamp', 'processedOn', 'finishedOn', 'ats', 'atm', 'progress' }
local TYPES = {
  [':logs'] = 'list',
  [':dependencies'] = 'set',
  [':processed'] = 'hash',
  [':failed'] = 'hash',
  [':unsuccessful'] = 'zset',
  [':lock'] = 'string',
}

-- Whether a flow that is being added holds the job.
local function is_held(id)
  local since = redis.pcall('HGET', B .. id, 'hold')
  return type(since) == 'string' and now - number_or_zero(since) < HOLD_MAX
end

local function is_in_a_set(id)
  for _, set in ipairs(STATE_SETS) do
    if redis.call('ZSCORE', B .. set, id) then
      return true
    end
  end
  return false
end

local function is_in_a_list(id)
  for _, list in ipairs(STATE_LISTS) do
    if redis.call('LPOS', B .. list, id) then
      return true
    end
  end
  return false
end

-- The keys of a job that is in no state. A key of another type belongs to something else, such as a queue whose
-- prefix begins like ours.
local function keys_of(id)
  local keys = {}
  if redis.call('TYPE', B .. id).ok == 'hash' then
    for _, value in ipairs(redis.call('HMGET', B .. id, unpack(FIELDS))) do
      if value then
        keys[1] = B .. id
      end
    end
  end
  for suffix, kind in pairs(TYPES) do
    if redis.call('TYPE', B .. id .. suffix).ok == kind then
      keys[#keys + 1] = B .. id .. suffix
    end
  end
  return keys
end

local function delete(id, keys)
  local job = redis.pcall('HMGET', B .. id, 'parent', 'parentKey', 'deid')
  redis.call('UNLINK', unpack(keys))
  if job[3] then
    drop_deduplication(B, id, job[3])
  end
  if job[1] or job[2] then
    pcall(unlink_from_parent, job[1], job[2], B .. id)
  end
end

local deleted, looked, budget = {}, 0, FLOW_BUDGET
for i = 4, #ARGV do
  if budget <= 0 or #deleted >= limit then
    break
  end
  local id = ARGV[i]
  looked = looked + 1
  budget = budget - LOOK_COST
  local keys = (is_in_a_set(id) or is_held(id)) and {} or keys_of(id)
  if #keys > 0 then
    budget = budget - 1 - list_cost(B)
    if not is_in_a_list(id) then
      deleted[#deleted + 1] = id
      if not dry then
        delete(id, keys)
      end
    end
  end
end
return { deleted, looked }
