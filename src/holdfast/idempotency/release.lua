-- Remove the owner's claim; a stored answer stays.
--
-- KEYS  1 the record (see claim.lua)
-- ARGV  1 owner
-- Returns 1, or 0 if the claim is not the owner's any more or its answer is stored.

local record = redis.call('HMGET', KEYS[1], 'owner', 'result')
if record[1] ~= ARGV[1] or record[2] then
  return 0
end
return redis.call('DEL', KEYS[1])
