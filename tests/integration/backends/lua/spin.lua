-- Write first, then keep the server busy for ARGV[1] milliseconds.
if redis.replicate_commands then redis.replicate_commands() end
redis.call('INCR', KEYS[1])
local function now()
  local time = redis.call('TIME')
  return time[1] * 1000 + time[2] / 1000
end
local finish = now() + tonumber(ARGV[1])
while now() < finish do end
return 1
