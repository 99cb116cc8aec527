--[[
  obliterate: any state -> removed
  Deletes a queue with all of its jobs, in bounded steps. The first one pauses the queue, so that nothing starts
  any more; each refuses, and has changed nothing, when the queue is not paused, or a job is active and that was
  not allowed.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    1 what: begin, a place (wait, paused, active, delayed, prioritized, waiting-children, completed, failed),
          repeat (the schedulers), dedup (keys whose owners are gone) or end
          2 dry: 1 changes nothing   3 how many jobs may be deleted (-1: all)   4 behind   5 id: where the step
          before has ended   6 active: 1 when active jobs are deleted too
          with dedup: deduplication ids from 7 on
  Returns {deleted ids, ids looked at, 1 when this part is at its end, behind, id};
          or a refusal: ACTIVE_JOBS, NOT_PAUSED
  Emits   paused, at the beginning
  Uses    codes, events, gate, marker, job, parent, dedup, removal, lists, walk
]]
local B, what, with_active = KEYS[1], ARGV[1], ARGV[6] == '1'
local walk = read_walk(B)
local SCHEDULERS_MAX = 200

if not with_active and redis.call('LLEN', B .. 'active') > 0 then
  return ACTIVE_JOBS
end
if not walk.dry and what ~= 'begin' and redis.call('HEXISTS', B .. 'meta', 'paused') == 0 then
  return NOT_PAUSED
end

local function begin()
  redis.call('XLEN', B .. 'events')
  redis.call('HSET', B .. 'meta', 'paused', 1)
  redis.call('DEL', B .. 'marker')
  emit(B, 'paused')
end

local function remove_schedulers()
  local ids = redis.call('ZRANGE', B .. 'repeat', 0, SCHEDULERS_MAX - 1)
  for _, id in ipairs(ids) do
    redis.call('UNLINK', B .. 'repeat:' .. id)
  end
  if #ids > 0 then
    redis.call('ZREM', B .. 'repeat', unpack(ids))
  end
  walk.ended = #ids < SCHEDULERS_MAX
end

local function free_deduplication()
  for i = 7, #ARGV do
    local key = B .. 'de:' .. ARGV[i]
    local owner = redis.pcall('GET', key)
    if type(owner) ~= 'string' or redis.call('EXISTS', B .. owner) == 0 then
      redis.call('UNLINK', key, B .. 'dn:' .. ARGV[i])
    end
  end
end

local function finish()
  local gone = {}
  for _, key in ipairs({ 'events', 'delay', 'stalled-check', 'stalled-check:schedulers', 'stalled', 'id', 'pc', 'marker',
    'meta', 'metrics:completed', 'metrics:completed:data', 'metrics:failed', 'metrics:failed:data', 'limiter' }) do
    gone[#gone + 1] = B .. key
  end
  redis.call('UNLINK', unpack(gone))
end

local PARTS = { begin = begin, ['repeat'] = remove_schedulers, dedup = free_deduplication, ['end'] = finish }
if PARTS[what] then
  walk.ended = true
  if not walk.dry then
    PARTS[what]()
  end
  return walk_reply(walk, {})
end

local deleted = walk_on(walk, function()
  return true
end)
for _, id in ipairs(walk.dry and {} or deleted) do
  if what == 'active' then
    redis.call('UNLINK', B .. id .. ':lock')
  end
  -- The keys of its parent may be unusable; the others must go all the same.
  pcall(remove_hard, B, id)
end
return walk_reply(walk, deleted)
