-- Append messages in order: a loop in one call, so that the first that fails keeps the later ones out.
-- KEYS[1] the stream
-- ARGV[1] about how many entries it may hold; then id, key, payload and headers of each message
for first = 2, #ARGV, 4 do
    redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[1], '*',
        'id', ARGV[first], 'key', ARGV[first + 1], 'payload', ARGV[first + 2], 'headers', ARGV[first + 3])
end
return #ARGV
