-- Queues awards in the journal, each action once.
--
-- KEYS  the journal (stream), what it holds (hash: action id to fingerprint)
-- ARGV  the most items it may hold, then for each award: the action's id, the fingerprint of
--       its contents, the item
-- Returns for each award 1: queued; 2: it was queued already; 3: other contents were; 0: full.

local journal, held = KEYS[1], KEYS[2]
local room = tonumber(ARGV[1]) - redis.call('XLEN', journal)
local answers = {}

for i = 2, #ARGV, 3 do
  local action, fingerprint, item = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local known = redis.call('HGET', held, action)
  local answer = 0
  if known then
    answer = known == fingerprint and 2 or 3
  elseif room > 0 then
    redis.call('XADD', journal, '*', 'action', action, 'item', item)
    redis.call('HSET', held, action, fingerprint)
    room = room - 1
    answer = 1
  end
  answers[#answers + 1] = answer
end
return answers
