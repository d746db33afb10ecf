#!lua
-- Reserves one attempt in a bucket (GCRA: the bucket holds the time at which it is empty).
-- KEYS  1 common bucket  2 bucket of the network  3 mark of a known network    (2 and 3 or neither)
-- ARGV  1 burst  2 interval of one attempt (ms)
-- Returns {1, 1 if the bucket of the network was used} or {0, the same, time until one is allowed (ms)}.
local place = KEYS[3] and redis.call('EXISTS', KEYS[3]) or 0
local bucket = KEYS[1 + place]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local burst, interval = tonumber(ARGV[1]), tonumber(ARGV[2])
local full = math.max(now, tonumber(redis.call('GET', bucket) or 0) or 0) + interval
local wait = full - burst * interval - now
if wait > 0 then return {0, place, wait} end
redis.call('SET', bucket, string.format('%.0f', full), 'PX', full - now)
return {1, place}
