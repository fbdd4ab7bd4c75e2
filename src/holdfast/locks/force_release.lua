-- End whatever lease there is. The last token of its name stays, so that the next one is greater.
--
-- KEYS  1 the lease: "<token> <owner>"
-- ARGV  1 the channel on which waiters are told
-- Returns {lease, rest of its TTL in ms, server's time in us as a string}, or nil when nobody held it.

local lease = redis.call('GET', KEYS[1])
if not lease then
  return false
end
local rest = redis.call('PTTL', KEYS[1])
redis.call('DEL', KEYS[1])
redis.pcall('PUBLISH', ARGV[1], '')
local time = redis.call('TIME')
return {lease, rest, string.format('%.0f', time[1] * 1000000 + time[2])}
