-- Claim a key, or tell why not.
--
-- KEYS  1 the record: a hash of owner, fingerprint, attempt, lease_ends (server's ms), and result once it is stored
-- ARGV  1 owner   2 fingerprint, or ''   3 lease in ms   4 ms to keep the record
-- Returns {1, attempt} claimed, {2, fingerprint, result} stored, {3, fingerprint, ms} busy until then.

local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
local record = redis.call('HMGET', KEYS[1], 'fingerprint', 'result', 'lease_ends', 'attempt')
local fingerprint = ARGV[2]
local attempt = 1
if record[1] then
  if record[2] then
    return {2, record[1], record[2]}
  end
  local left_ms = record[3] - now_ms
  if fingerprint == '' then
    fingerprint = record[1]
  end
  -- What a request that died had asked for may have happened: another payload does not take over.
  if left_ms > 0 or (record[1] ~= '' and record[1] ~= fingerprint) then
    return {3, record[1], math.max(0, left_ms)}
  end
  attempt = record[4] + 1
end
-- %.0f: as text, Lua would round a number this large to 14 digits.
local lease_ends = string.format('%.0f', now_ms + ARGV[3])
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'fingerprint', fingerprint, 'attempt', attempt, 'lease_ends', lease_ends)
redis.call('PEXPIRE', KEYS[1], math.max(ARGV[3], ARGV[4]))
return {1, attempt}
