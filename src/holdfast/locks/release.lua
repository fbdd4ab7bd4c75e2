-- End a lease. The last token of its name stays, so that the next one is greater.
--
-- KEYS  1 the lease: "<token> <owner>"
-- ARGV  1 owner
-- Returns 1, or 0 when the owner has no lease.

local lease = redis.call('GET', KEYS[1])
if not lease or string.match(lease, '^%d+ (.*)$') ~= ARGV[1] then
  return 0
end
return redis.call('DEL', KEYS[1])
