-- Store the answer of the owner's claim.
--
-- KEYS  1 the record (see claim.lua)
-- ARGV  1 owner   2 result   3 ms to keep it
-- Returns 1, or 0 if the claim is not the owner's any more or an answer is stored.

local record = redis.call('HMGET', KEYS[1], 'owner', 'result')
if record[1] ~= ARGV[1] or record[2] then
  return 0
end
redis.call('HSET', KEYS[1], 'result', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
