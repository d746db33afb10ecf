#!lua flags=allow-oom
-- Writes the beat whose acknowledgement by replicas shows that this primary has not been replaced, and tells in which
-- history it was written. The acknowledgement is waited for after this, on the same connection.
-- KEYS  1 beat
-- ARGV  1 how long the key lives (ms)
-- Returns {role, run id, replication id}.
local function field(text, name) return string.match(text, name .. ':([^\r\n]+)') end
redis.call('SET', KEYS[1], '', 'PX', ARGV[1])
local replication = redis.call('INFO', 'replication')
return {field(replication, 'role'), field(redis.call('INFO', 'server'), 'run_id'), field(replication, 'master_replid')}
