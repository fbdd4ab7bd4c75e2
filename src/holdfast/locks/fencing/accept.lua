-- Remember a fencing token if it is the greatest yet.
--
-- KEYS  1 the fence: the greatest token
-- ARGV  1 token   2 how long a fence is remembered, in ms
-- Returns the greatest token as a string.

local newest = redis.call('GET', KEYS[1])
if not newest or tonumber(ARGV[1]) >= tonumber(newest) then
  newest = ARGV[1]
end
redis.call('SET', KEYS[1], newest, 'PX', ARGV[2])
return newest
