-- Tell who holds a lock, and change nothing.
--
-- KEYS  1 the lease: "<token> <owner>"
-- Returns {lease, rest of its TTL in ms, server's time in us as a string}, or nil when nobody holds it.

local lease = redis.call('GET', KEYS[1])
if not lease then
  return false
end
local time = redis.call('TIME')
return {lease, redis.call('PTTL', KEYS[1]), string.format('%.0f', time[1] * 1000000 + time[2])}
