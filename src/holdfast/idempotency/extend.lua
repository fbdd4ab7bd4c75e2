-- Let the owner's claim live for another lease.
--
-- KEYS  1 the record (see claim.lua)
-- ARGV  1 owner   2 lease in ms   3 ms to keep the record
-- Returns 1, or 0 if the claim is not the owner's any more or its answer is stored.

local record = redis.call('HMGET', KEYS[1], 'owner', 'result')
if record[1] ~= ARGV[1] or record[2] then
  return 0
end
local time = redis.call('TIME')
local lease_ends = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[2]
redis.call('HSET', KEYS[1], 'lease_ends', string.format('%.0f', lease_ends))
redis.call('PEXPIRE', KEYS[1], math.max(ARGV[2], ARGV[3]))
return 1
