-- Let others have at once what this receiver has and did not acknowledge: as if it had been silent for too long.
-- KEYS[1] the stream
-- ARGV    group, receiver, milliseconds that count as too long, how many entries at most
local pending = redis.pcall('XPENDING', KEYS[1], ARGV[1], '-', '+', ARGV[4], ARGV[2])
local claim = {'XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0}
-- An error, when there is no such group, has no entries.
for _, entry in ipairs(pending) do
    claim[#claim + 1] = entry[1]
end
if #claim > 5 then
    for _, option in ipairs({'IDLE', ARGV[3], 'JUSTID'}) do
        claim[#claim + 1] = option
    end
    redis.call(unpack(claim))
end
return #claim
