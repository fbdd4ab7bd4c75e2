-- Give a lease more time.
--
-- KEYS  1 the lease: "<token> <owner>"   2 the last token of this name
-- ARGV  1 owner   2 TTL of the lease in ms from now   3 TTL of the last token in ms from now
-- Returns 1, or 0 when the owner has no lease.

local lease = redis.call('GET', KEYS[1])
if not lease or string.match(lease, '^%d+ (.*)$') ~= ARGV[1] then
  return 0
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 1
