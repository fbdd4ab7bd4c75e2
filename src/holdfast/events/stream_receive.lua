-- Hand out messages of a group: first what this receiver has and did not acknowledge, so that it never
-- overtakes itself; then what others had for too long; then new ones. Replies with {entry id, fields}.
-- KEYS[1] the stream
-- ARGV    group, receiver, limit, milliseconds that count as too long, 1 to keep the order,
--         1 to forget receivers of old
local group, receiver, limit = ARGV[1], ARGV[2], tonumber(ARGV[3])
local DAY = 86400000

-- Fails when the group exists, which is what we want.
redis.pcall('XGROUP', 'CREATE', KEYS[1], group, '0', 'MKSTREAM')

if ARGV[6] == '1' then
    for _, info in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[1], group)) do
        -- {'name', n, 'pending', n, 'idle', n, ...}
        if info[4] == 0 and info[6] > DAY then
            redis.call('XGROUP', 'DELCONSUMER', KEYS[1], group, info[2])
        end
    end
end

-- An entry that MAXLEN removed while it was pending has no fields any more. XAUTOCLAIM of Redis 6.2 has claimed it
-- and says false for it; the next receive finds it among its own, with its id.
local function present(entries)
    local found = {}
    for _, entry in ipairs(entries) do
        if entry and entry[2] then
            found[#found + 1] = entry
        elseif entry then
            redis.call('XACK', KEYS[1], group, entry[1])
        end
    end
    return found
end

local function read(from)
    local reply = redis.call('XREADGROUP', 'GROUP', group, receiver, 'COUNT', limit, 'STREAMS', KEYS[1], from)
    return reply and reply[1] and present(reply[1][2]) or {}
end

local own = read('0')
if #own > 0 then
    return own
end
local claimed = present(redis.call('XAUTOCLAIM', KEYS[1], group, receiver, ARGV[4], '0-0', 'COUNT', limit)[2])
if #claimed > 0 then
    return claimed
end
-- What another receiver still works on, or died over a moment ago, must not be overtaken.
if ARGV[5] == '1' and redis.call('XPENDING', KEYS[1], group)[1] > 0 then
    return {}
end
return read('>')
