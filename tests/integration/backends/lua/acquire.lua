-- The heart of any lock.
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', 60000) then return 1 end
return 0
