-- Whether one board and period is complete, and which server, with which history, has it.
--
-- KEYS  see boards/keys.py
-- Returns 0 or 1, and a text that changes when the server was restarted or another took over.

local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
local history = string.match(redis.call('INFO', 'replication'), 'master_replid:(%x+)')
return {redis.call('EXISTS', KEYS[4]), run .. history}
