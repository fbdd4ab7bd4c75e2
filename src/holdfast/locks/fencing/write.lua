-- Write a value, unless a greater fencing token has been here.
--
-- KEYS  1 the value: a hash of token and value
-- ARGV  1 token   2 value   3 TTL in ms, 0 for none
-- Returns the greatest token as a string: it is greater than ours when nothing was written.

local newest = redis.call('HGET', KEYS[1], 'token')
if newest and tonumber(ARGV[1]) < tonumber(newest) then
  return newest
end
redis.call('HSET', KEYS[1], 'token', ARGV[1], 'value', ARGV[2])
if ARGV[3] == '0' then
  redis.call('PERSIST', KEYS[1])
else
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return ARGV[1]
