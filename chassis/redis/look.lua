-- Where a stream stands, as a reader needs it to find out whether it lost entries.
--
-- KEYS  the stream
-- ARGV  the id of the last entry read ('': none); 'server' where the last answer is wanted too
-- Returns 1 or 0: the stream still holds that entry; how many entries it ever had; how many of
-- them were removed; the id of its last one ('': there is no stream); the present time (Unix ms);
-- and a text that changes when the server was restarted or another took over ('': not wanted).

local server = ''
if ARGV[2] == 'server' then
  server = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
    .. string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
end
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
-- Most reads end here: what is behind an entry that is still held cannot have been trimmed.
if ARGV[1] ~= '' and #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 1 then
  return {1, 0, 0, ARGV[1], now_ms, server}
end
if redis.call('EXISTS', KEYS[1]) == 0 then
  return {0, 0, 0, '', now_ms, server}
end
local about, info = {}, redis.call('XINFO', 'STREAM', KEYS[1])
for i = 1, #info, 2 do
  about[info[i]] = info[i + 1]
end
local added = about['entries-added']
return {0, added, added - about['length'], about['last-generated-id'], now_ms, server}
