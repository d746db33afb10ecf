#!lua flags=no-writes
-- Reads one page of the feed and the state of the server, in one snapshot.
-- KEYS  1 feed  2 stable since  3 repair lock
-- ARGV  1 last id seen  2 entries in a page
-- Returns {role, run id, replication id, seconds, microseconds, last id, entries ever added, stable since, 1 if locked,
-- last id of the page, its entries}. A missing feed has last id '' and is not settled. The entries are the lines of one
-- string: a thousand strings would cost Redis and the client as much as all the rest.
local function field(text, name) return string.match(text, name .. ':([^\r\n]+)') end
local replication = redis.call('INFO', 'replication')
local time = redis.call('TIME')
local last, added, settled, reached, page = '', 0, '', ARGV[1], {}
if redis.call('EXISTS', KEYS[1]) == 1 then
  local stream = redis.call('XINFO', 'STREAM', KEYS[1])
  for i = 1, #stream, 2 do
    if stream[i] == 'last-generated-id' then last = stream[i + 1]
    elseif stream[i] == 'entries-added' then added = stream[i + 1] end
  end
  settled = redis.call('GET', KEYS[2]) or ''
  if last ~= ARGV[1] then
    for _, entry in ipairs(redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', ARGV[2])) do
      reached = entry[1]
      page[#page + 1] = entry[2][2]
    end
  end
end
return {field(replication, 'role'), field(redis.call('INFO', 'server'), 'run_id'), field(replication, 'master_replid'),
  time[1], time[2], last, added, settled, redis.call('EXISTS', KEYS[3]), reached, table.concat(page, '\n')}
