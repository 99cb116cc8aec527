-- Going through the ids of one place in bounded steps (docs/protocol.md#many-jobs). A step goes on behind the last
-- id that the steps before have left in place. Whatever others add and take meanwhile, no id is passed over that
-- was there all the time; some may be looked at twice.

-- What one step may cost, in ids that are looked at and left in place.
local WALK_BUDGET = 240
-- What an id that is taken costs beside that.
local TAKE_COST = 3
-- How many entries of a list one step looks through for the id where the step before has ended.
local SEARCH_MAX = 1000
local WALK_LISTS = { wait = true, paused = true, active = true }

-- Reads a step from ARGV: place, dry (1: nothing is changed), limit (how many ids may be taken, -1: any number),
-- and where the step before has ended: behind, id. Of a list `behind` is how many entries at the tail have
-- stayed, of a set the score, and `id` is the last of those that stayed; both are empty at the beginning.
local function read_walk(B)
  local limit = tonumber(ARGV[3])
  return {
    key = B .. ARGV[1],
    place = ARGV[1],
    is_list = WALK_LISTS[ARGV[1]] or false,
    dry = ARGV[2] == '1',
    limit = limit < 0 and math.huge or limit,
    behind = ARGV[4],
    id = ARGV[5],
    looked = 0,
    ended = false,
  }
end

-- Looks for the id where the step before has ended, which is not `stayed` entries from the tail any more: others take
-- from there, and hardly ever add. Returns how many entries from the tail it is; or nil, and from where to look on.
local function find_again(walk, stayed)
  stayed = math.min(stayed, redis.call('LLEN', walk.key))
  local from = math.max(stayed - SEARCH_MAX + WALK_BUDGET, 0)
  local ids = redis.call('LRANGE', walk.key, -(stayed + WALK_BUDGET), -(from + 1))
  for i = #ids, 1, -1 do
    if ids[i] == walk.id then
      return from + #ids - i + 1
    end
  end
  return nil, from
end

-- Returns the next ids of a list in its order, and how many entries behind them have stayed. The oldest are at the
-- tail, and come first: workers take them there, and new ones come at the head. Returns no ids, and sets
-- `walk.searches`, when the next step has to look further for where this one begins.
local function next_of_list(walk)
  local key, stayed = walk.key, tonumber(walk.behind) or 0
  if stayed > 0 and redis.call('LINDEX', key, -stayed) ~= walk.id then
    local found, from = find_again(walk, stayed)
    stayed = found or from
    if not found and from > 0 then
      walk.searches = true
      return {}, stayed
    end
  end
  return redis.call('LRANGE', key, -(stayed + WALK_BUDGET), -(stayed + 1)), stayed
end

-- Returns the next ids of a sorted set, up to the score `walk.max`, and their scores.
local function next_of_set(walk)
  local key, rank = walk.key, 0
  if walk.behind ~= '' then
    if walk.id ~= '' and redis.call('ZSCORE', key, walk.id) == walk.behind then
      rank = redis.call('ZRANK', key, walk.id) + 1
    else
      rank = redis.call('ZCOUNT', key, '-inf', '(' .. walk.behind)
    end
  end
  local page, ids, scores = redis.call('ZRANGE', key, rank, rank + WALK_BUDGET - 1, 'WITHSCORES'), {}, {}
  for i = 1, #page, 2 do
    if walk.max and tonumber(page[i + 1]) > walk.max then
      break
    end
    ids[#ids + 1], scores[#scores + 1] = page[i], page[i + 1]
  end
  return ids, scores
end

-- Takes the entries at `indexes` of what `next_of_list` has returned out of the list.
local function take_from_list(walk, count, stayed, indexes)
  for _, i in ipairs(indexes) do
    redis.call('LSET', walk.key, i - count - stayed - 1, LEAVING)
  end
  local index = redis.call('LLEN', walk.key) - stayed - 1
  remove_near(walk.key, #indexes, index, LEAVING)
end

-- Takes one step: the ids for which `is_wanted` leave their place, unless the step is dry. Returns them in the
-- order of the place, and notes in `walk` where the step has ended and how many ids it has looked at.
local function walk_on(walk, is_wanted)
  local ids, more = (walk.is_list and next_of_list or next_of_set)(walk)
  if walk.searches then
    walk.behind = more
    return {}
  end
  local first, last, step = 1, #ids, 1
  if walk.is_list then
    first, last, step = #ids, 1, -1
  end
  local stayed, budget, wanted, kept = walk.is_list and more, WALK_BUDGET, {}, 0
  walk.ended = #ids < WALK_BUDGET
  for i = first, last, step do
    if budget <= 0 or #wanted >= walk.limit then
      walk.ended = false
      break
    end
    local id = ids[i]
    local wants = is_wanted(id)
    budget = budget - 1
    if wants then
      wanted[#wanted + 1] = i
      budget = budget - TAKE_COST
    end
    walk.looked = walk.looked + 1
    local stays = walk.dry or not wants
    if stays then
      kept = kept + 1
    end
    if walk.is_list and stays then
      walk.behind, walk.id = stayed + kept, id
    elseif not walk.is_list then
      walk.behind, walk.id = more[i], stays and id or ''
    end
  end
  if walk.is_list and kept == 0 then
    walk.behind, walk.id = stayed, stayed > 0 and walk.id or ''
  end
  table.sort(wanted)
  local taken = {}
  for n, i in ipairs(wanted) do
    taken[n] = ids[i]
  end
  if #taken > 0 and not walk.dry then
    if walk.is_list then
      take_from_list(walk, #ids, stayed, wanted)
    else
      redis.call('ZREM', walk.key, unpack(taken))
    end
  end
  return taken
end

-- What a step answers: {ids it took, how many it looked at, 1 when the place is at its end, behind, id}.
local function walk_reply(walk, taken)
  return { taken, walk.looked, walk.ended and 1 or 0, tostring(walk.behind), walk.id }
end
