#!lua flags=allow-oom
-- Appends entries to the feed and returns the longest window that a replica may have.
-- KEYS  1 feed  2 windows  3 stable since
-- ARGV  1 wait (ms) if the windows are not known  2… entries
-- Returns the greatest window (ms) announced in the last five minutes; ARGV 1 if there is none, or if this history has not
-- settled yet.
--
-- A missing feed has lost its history. No replica may trust it until the others had time to put back the entries that they
-- know; this includes a replica that starts just now and sees only the entries appended here. So it is no longer settled.
--
-- A loss of the history loses the announcements too, while views of the former history still count: for a window that is
-- no longer known, and perhaps under a lease on the primary that was replaced. By the time the present history has settled
-- those views are too old, and every replica that reads it has announced its window in it.
local function field(section, name) return string.match(redis.call('INFO', section), name .. ':([^\r\n]+)') end
if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('DEL', KEYS[3]) end
for i = 2, #ARGV do redis.call('XADD', KEYS[1], '*', 'e', ARGV[i]) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local history = field('server', 'run_id') .. ':' .. field('replication', 'master_replid') .. ' '
local settled = redis.call('GET', KEYS[3]) or ''
if string.sub(settled, 1, #history) ~= history then return tonumber(ARGV[1]) end
if now < tonumber(string.sub(settled, #history + 1)) then return tonumber(ARGV[1]) end
local greatest = -1
for _, window in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], now - 300000, '+inf')) do
  greatest = math.max(greatest, tonumber(window))
end
if greatest < 0 then return tonumber(ARGV[1]) end
return greatest
