-- Take a lock, or take it again for its owner.
--
-- KEYS  1 the lease: "<token> <owner>"   2 the last token of this name
-- ARGV  1 owner   2 TTL of the lease in ms   3 TTL of the last token in ms
-- Returns the fencing token as a string (a reply cannot hold whole numbers above 2^53 exactly as a
-- number), or as a number the rest of another owner's lease in ms.

local lease = redis.call('GET', KEYS[1])
if lease then
  local token, owner = string.match(lease, '^(%d+) (.*)$')
  if owner ~= ARGV[1] then
    return redis.call('PTTL', KEYS[1])
  end
  -- The first answer was lost: the same owner asks again and must not get another token.
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  redis.call('PEXPIRE', KEYS[2], ARGV[3])
  return token
end

local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local last = tonumber(redis.call('GET', KEYS[2]) or 0)
-- '%.0f', because Lua writes 1700000000000000 as 1.7e+15.
local token = string.format('%.0f', math.max(last + 1, now_us))
redis.call('SET', KEYS[1], token .. ' ' .. ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[2], token, 'PX', ARGV[3])
return token
