-- For scripts that create the functions of `parent` only when they need them, as `flows`.

-- A job that is deleted leaves its parent, which stops waiting for it.
local function unlink_from_parent(parent_json, parent_key, child_key)
  flows().unlink_from_parent(parent_json, parent_key, child_key)
end
