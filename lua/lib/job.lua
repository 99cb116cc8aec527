-- The keys of one job (docs/protocol.md#job-keys).

-- Deletes a job's hash and sub-keys, not its lock. Returns how many keys existed. A parent may have many
-- children: the server frees their sets beside its work.
local function delete_job_keys(job_key)
  return redis.call('UNLINK', job_key, job_key .. ':logs', job_key .. ':dependencies', job_key .. ':processed',
    job_key .. ':failed', job_key .. ':unsuccessful')
end

-- Turns a stored number into a number; anything unreadable counts as 0.
local function number_or_zero(text)
  return text and tonumber(text) or 0
end

-- Returns the next higher count; the first one as text, which spares the server a conversion.
local function count_up(text)
  return text and number_or_zero(text) + 1 or '1'
end

-- Decodes JSON that other clients may have written: nil when it is not a JSON object.
local function decode_object(text)
  if not text then
    return nil
  end
  local ok, value = pcall(cjson.decode, text)
  if ok and type(value) == 'table' then
    return value
  end
  return nil
end

-- Ids written by versions before 5 as signals; they are never jobs (docs/protocol.md#mixed-versions).
local function is_legacy_marker(id)
  return string.sub(id, 1, 2) == '0:'
end
