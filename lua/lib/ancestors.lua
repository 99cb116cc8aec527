-- Keeping a job from waiting for itself (docs/protocol.md#existing-ids).

-- How many jobs one call follows upwards that are not its own; what is above them is not looked at.
local ANCESTORS_MAX = 1000

-- A way up from children to the parents that wait for them. links: the parents that the call is to give jobs, by key.
local function new_ascent(links)
  return { links = links, left = ANCESTORS_MAX, seen = {}, parents = {} }
end

-- Returns the parent that waits for a job, nil for none. What is no job, or no set of children, waits for nothing.
local function waiting_parent(way, key)
  if way.links[key] then
    return way.links[key]
  elseif way.parents[key] == nil and way.left > 0 then
    way.left = way.left - 1
    local parent = redis.pcall('HGET', key, 'parentKey')
    local waits = type(parent) == 'string' and parent ~= ''
      and redis.pcall('SISMEMBER', parent .. ':dependencies', key) == 1
    way.parents[key] = waits and parent
  end
  return way.parents[key]
end

-- Returns whether a new link closes a circle above a job. Circles that were there before are not looked at.
local function waits_for_itself(way, job_key)
  local key = job_key
  while key and not way.seen[key] do
    way.seen[key] = job_key
    key = waiting_parent(way, key)
  end
  if not key or way.seen[key] ~= job_key then
    return false
  end
  local first = key
  repeat
    if way.links[key] then
      return true
    end
    key = waiting_parent(way, key)
  until key == first
  return false
end
