-- Take tokens from a bucket, or nothing.
--
-- KEYS  1 the bucket: two doubles, tokens and the server's microseconds at the last update; none: full
-- ARGV  1 capacity   2 tokens per second   3 cost
-- Returns {1 or 0, the tokens left as a string (a number in a reply loses its fraction)}.

local capacity, rate, cost = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
-- Whole microseconds are exact in a double until the year 2255.
local now_us = time[1] * 1000000 + time[2]

local tokens, set_back = capacity, false
local bucket = redis.call('GET', KEYS[1])
if bucket then
  local held, updated_us = struct.unpack('<dd', bucket)
  set_back = updated_us > now_us
  tokens = math.min(capacity, held + math.max(0, now_us - updated_us) / 1000000 * rate)
end

-- Whoever waited for exactly `retry_after` and is a rounding error too early is on time (memory.py, TICK).
local allowed = tokens + rate / 1000000 >= cost
if allowed then
  tokens = tokens - cost
end
-- A refused ask takes nothing, so it has nothing to write; unless the clock was set back: nothing would be added to a
-- bucket from the future until that time has come again, so it goes on from its tokens and the new time.
if allowed or set_back then
  -- A full bucket needs no memory: the key ends when the bucket would be full again.
  local full_in_ms = math.max(1, math.ceil((capacity - tokens) / rate * 1000))
  redis.call('SET', KEYS[1], struct.pack('<dd', tokens, now_us), 'PX', string.format('%.0f', full_in_ms))
end
return {allowed and 1 or 0, string.format('%.17g', tokens)}
