#!lua flags=allow-oom
-- Appends entries to the feed and tells how long the slowest replica's window is.
-- KEYS  1 feed  2 windows  3 settled
-- ARGV  1… entries
-- Returns the greatest window (ms) announced in the last five minutes, 1000 if there is none: the greatest allowed.
--
-- A feed that is missing has lost its history. No replica may trust it until the others had time to put back what they
-- know, also one that starts just now and sees only what is appended here: so it is settled no longer.
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('DEL', KEYS[3]) end
for i = 1, #ARGV do redis.call('XADD', KEYS[1], '*', 'e', ARGV[i]) end
local time = redis.call('TIME')
local since = (time[1] - 300) * 1000
local greatest = -1
for _, window in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], since, '+inf')) do
  greatest = math.max(greatest, tonumber(window))
end
if greatest < 0 then return 1000 end
return greatest
