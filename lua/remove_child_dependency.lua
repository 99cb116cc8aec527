--[[
  remove_child_dependency: waiting-children -> waiting, for the parent of a pending child
  Breaks the link between a pending child and its parent. The child stays as it is; the parent stops waiting for it
  and is released when it was the last one.
  KEYS    1 base: the key prefix of the child's queue with its trailing colon
  ARGV    1 id of the child
  Returns 1 when the link was broken, 0 when the parent does not wait for the child: nothing has changed;
          or a refusal: JOB_MISSING, PARENT_MISSING (also when the job has no parent)
  Emits   waiting, for a parent that was released
  Uses    codes, events, gate, marker, place, job, parent
]]
local B, id = KEYS[1], ARGV[1]
local job_key = B .. id
if redis.call('EXISTS', job_key) == 0 then
  return JOB_MISSING
end
local link = redis.call('HMGET', job_key, 'parent', 'parentKey')
local parent = find_parent(link[1], link[2])
if not parent or redis.call('EXISTS', parent.key) == 0 then
  return PARENT_MISSING
end
-- What the parent's release would write.
check_queue(parent.base)
redis.call('ZCARD', parent.base .. 'waiting-children')
if redis.call('SREM', parent.key .. ':dependencies', job_key) == 0 then
  return 0
end
release_after_removal(parent)
redis.call('HDEL', job_key, 'parentKey', 'parent')
return 1
