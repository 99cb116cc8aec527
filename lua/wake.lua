--[[
  wake: no change of state
  Passes a wake-up that its receiver cannot use on to another worker.
  KEYS    1 base: the queue's key prefix with its trailing colon
  ARGV    none
  Returns {"ok"}
  Emits   nothing
  Uses    gate, marker
]]
local B = KEYS[1]
if has_ready(B) then
  wake_unless_blocked(B, read_settings(B))
else
  announce_due(B)
end
return { 'ok' }
