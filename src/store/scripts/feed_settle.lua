#!lua flags=allow-oom
-- Begins to settle a history that no replica has settled yet. The first replica that sees the history does this; a value
-- for the present history stays.
-- KEYS  1 feed  2 stable since
-- ARGV  1 history seen: run id and replication id  2 settling time (ms)  3 settling time after a restart (ms)
--
-- The feed is created empty if it is missing, so that a missing feed always means a lost history.
--
-- Redis counts as restarted if it has run for a moment only, or if the history was last settled under another run id and
-- this server has not been promoted since.
local function field(section, name) return string.match(redis.call('INFO', section), name .. ':([^\r\n]+)') end
local settled = redis.call('GET', KEYS[2])
if settled and string.sub(settled, 1, #ARGV[1] + 1) == ARGV[1] .. ' ' and redis.call('EXISTS', KEYS[1]) == 1 then return end
if redis.call('EXISTS', KEYS[1]) == 0 then
  redis.call('XGROUP', 'CREATE', KEYS[1], 'none', '$', 'MKSTREAM')
  redis.call('XGROUP', 'DESTROY', KEYS[1], 'none')
end
local another_run = settled and string.match(settled, '^[^:]*') ~= field('server', 'run_id')
local promoted = tonumber(field('replication', 'second_repl_offset')) ~= -1
local restarted = tonumber(field('server', 'uptime_in_seconds')) <= 1 or another_run and not promoted
local time = redis.call('TIME')
local from = time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[restarted and 3 or 2]
redis.call('SET', KEYS[2], ARGV[1] .. ' ' .. string.format('%.0f', from))
