-- End a lease. The last token of its name stays, so that the next one is greater.
--
-- KEYS  1 the lease: "<token> <owner>"
-- ARGV  1 owner   2 the channel on which waiters are told
-- Returns 1, or 0 when the owner has no lease.

local lease = redis.call('GET', KEYS[1])
if not lease or string.match(lease, '^%d+ (.*)$') ~= ARGV[1] then
  return 0
end
redis.call('DEL', KEYS[1])
-- A user whose rights do not reach the channel has released all the same: waiters look by themselves, too.
redis.pcall('PUBLISH', ARGV[2], '')
return 1
